"""A fast OpenAI-compatible server without a model, for tests: deterministic answers, seeded faults, counts.

In this process, on a thread of its own and a free port:

    with FakeServer(faults=Faults(error_share=0.05)) as server:
        ask(server.url)

or as a process that can be killed; it prints its URL:

    python tests/fakes/openai_server.py --port 0 --error-share 0.05
"""

import argparse
import asyncio
import hashlib
import json
import math
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

Request = dict[str, Any]
# A text is the answer's content, a dict the whole body, bytes the whole body as it goes over the wire.
Reply = str | dict[str, Any] | bytes
# Status and body; None closes the connection instead.
_Sent = tuple[int, dict[str, Any] | bytes | None]

_STATUS = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong. Shares are of chat completions, drawn with `seed` in the order of arrival.

    Attributes:
        seed: Of the draws.
        error_share: Answered by status 500.
        hang_share: Never answered.
        malformed_share: Answered by cut-off JSON, a body without choices or a content that is no text, in turn.
        drop_share: Connection closed without an answer.
        latency_s: Seconds that every answer takes.
        per_second: Answers a second; more wait their turn. 0: no bound.
        context_chars: Longer prompts are refused by status 400, in vLLM's words. 0: no bound.
        refuse: Everything is refused by status 429.
    """

    seed: int = 0
    error_share: float = 0.0
    hang_share: float = 0.0
    malformed_share: float = 0.0
    drop_share: float = 0.0
    latency_s: float = 0.0
    per_second: float = 0.0
    context_chars: int = 0
    refuse: bool = False


def prompt_of(request: Request) -> str:
    """All text of a request's messages."""
    return "\n".join(str(message.get("content", "")) for message in request.get("messages", []))


def labels_of(request: Request) -> list[str]:
    """The labels that the answer is constrained to."""
    return list((request.get("structured_outputs") or {}).get("choice") or [])


def label_of(prompt: str, labels: list[str] | tuple[str, ...]) -> str:
    """The default verdict on a prompt: as good as random, always the same."""
    return labels[_number(prompt) % len(labels)]


def by_hash(request: Request) -> Reply:
    """The default judge: `label_of` for labels, an instance of the schema, or a sentence."""
    prompt = prompt_of(request)
    if labels := labels_of(request):
        return label_of(prompt, labels)
    if (form := request.get("response_format") or {}).get("type") == "json_schema":
        return json.dumps(_instance(form["json_schema"]["schema"], _number(prompt)))
    return f"Answer {_number(prompt) % 1000} to a prompt of {len(prompt)} characters."


def by_marker(marker: str) -> Callable[[Request], Reply]:
    """A judge that gives the first label to prompts that hold `marker`, the second to all others."""

    def answer(request: Request) -> Reply:
        labels = labels_of(request)
        return labels[0 if marker in prompt_of(request) else 1] if labels else by_hash(request)

    return answer


def compared(request: Request) -> tuple[str, str]:
    """The two replies that a comparison shows, as A and as B."""
    first, second = (part.split("\n", 2)[2] for part in prompt_of(request).split("The reply of assistant ")[-2:])
    return first.rpartition("\n<</")[0], second.rpartition("\n<</")[0]


def by_shorter(request: Request) -> Reply:
    """A pairwise judge that prefers the shorter reply, by a label or at the end of a thought."""
    if "The reply of assistant " not in prompt_of(request):
        return by_hash(request)
    first, second = compared(request)
    label = "A" if len(first) < len(second) else "B"
    # A label may close the tag that the turn before it has left open.
    named = [known for known in labels_of(request) if known.endswith(label)]
    return named[0] if named else f"<think>\nI count.\n</think>\n\n<answer>{label}</answer>"


class FakeServer:
    """The server; a context manager that runs it on a thread.

    Args:
        answer: Answers a chat completion's request.
        faults: What goes wrong.
        port: 0 takes a free one.
        model: The name that /v1/models tells.
        thought: Goes into the answer's field `reasoning_field`, as from a server with a reasoning parser.
        reasoning_field: "reasoning" or "reasoning_content".
        keep_bodies: Keep all requests in `bodies`.
        prompt_end: What the served template ends its prompts with, as vLLM's /tokenize tells; None: no such route.

    Attributes:
        url: Base URL, with /v1, once it runs.
        counts: "requests" to chat completions, "answered" ones, and those that met each fault.
        busiest: Most requests at one time.
        bodies: Requests in order of arrival.
    """

    def __init__(
        self,
        answer: Callable[[Request], Reply] = by_hash,
        faults: Faults | None = None,
        port: int = 0,
        model: str = "fake",
        thought: str = "",
        reasoning_field: str = "reasoning",
        keep_bodies: bool = False,
        prompt_end: str | None = None,
    ) -> None:
        self.answer = answer
        self.faults = faults or Faults()
        self.url = ""
        self.counts: Counter[str] = Counter()
        self.busiest = 0
        self.bodies: list[Request] = []
        self._port = port
        self._model = model
        self._thought = {reasoning_field: thought} if thought else {}
        self._keep_bodies = keep_bodies
        self._prompt_end = prompt_end
        self._random = random.Random(self.faults.seed)
        self._active = 0
        self._next_turn = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "FakeServer":
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve(ready.set)), daemon=True)
        self._thread.start()
        if not ready.wait(10):
            raise RuntimeError("the fake server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._stop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    async def serve(self, on_ready: Callable[[], object]) -> None:
        """Serve until stopped; `on_ready` is called when `url` is known."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        talks: set[asyncio.Task[None]] = set()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            talks.add(task)
            try:
                await self._talk(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass  # The client, or this server, is gone.
            finally:
                talks.discard(task)
                writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", self._port, limit=2**24, backlog=1024)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        on_ready()
        await self._stop.wait()
        server.close()
        for task in tuple(talks):
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            target = head.split(" ", 2)[1]
            lengths = [line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("content-length")]
            length = int(lengths[0]) if lengths else 0
            body = await reader.readexactly(length)
            if target == "/v1/chat/completions":
                status, reply = await self._counted(json.loads(body), reader)
                if reply is None:
                    return
            else:
                status, reply = self._about(target, json.loads(body or b"{}"))
            content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            start = f"HTTP/1.1 {status} {_STATUS[status]}\r\ncontent-type: application/json\r\n"
            writer.write(f"{start}content-length: {len(content)}\r\n\r\n".encode() + content)
            await writer.drain()

    def _about(self, target: str, request: Request) -> tuple[int, dict[str, Any]]:
        if target == "/tokenize" and self._prompt_end is not None:
            return 200, {"tokens": [ord(letter) for letter in prompt_of(request) + self._prompt_end]}
        if target == "/detokenize":
            return 200, {"prompt": "".join(map(chr, request["tokens"]))}
        if target == "/v1/models":
            return 200, {"object": "list", "data": [{"id": self._model, "object": "model"}]}
        if target == "/health":
            return 200, {}
        if target == "/counts":
            return 200, {**self.counts, "busiest": self.busiest}
        return _error(404, f"no {target}")

    async def _counted(self, request: Request, reader: asyncio.StreamReader) -> _Sent:
        self.counts["requests"] += 1
        if self._keep_bodies:
            self.bodies.append(request)
        self._active += 1
        self.busiest = max(self.busiest, self._active)
        try:
            return await self._complete(request, reader)
        finally:
            self._active -= 1

    async def _complete(self, request: Request, reader: asyncio.StreamReader) -> _Sent:
        """The status and body, or no body where the connection is to be dropped."""
        faults = self.faults
        draw = self._random.random()
        if faults.latency_s:
            await asyncio.sleep(faults.latency_s)
        if faults.per_second:
            await self._turn()
        if faults.refuse:
            self.counts["refused"] += 1
            return _error(429, "Too many requests")
        if 0 < faults.context_chars < (size := len(prompt_of(request))):
            self.counts["overflow"] += 1
            return _error(400, _overflow(faults.context_chars, size))
        for name in ("error", "hang", "malformed", "drop"):
            draw -= getattr(faults, f"{name}_share")
            if draw < 0:
                self.counts[name] += 1
                return await self._fail(name, reader)
        self.counts["answered"] += 1
        reply = self.answer(request)
        return 200, reply if isinstance(reply, dict | bytes) else self.completion(request, reply)

    async def _fail(self, name: str, reader: asyncio.StreamReader) -> _Sent:
        if name == "hang":
            await reader.read()  # Until the client has had enough.
        if name in ("hang", "drop"):
            return 0, None
        if name == "error":
            return _error(500, "Internal server error")
        wrong = (
            b'{"choices": [{"message": {"content": "Yes',
            {"object": "chat.completion", "choices": []},
            {"choices": [{"message": {"content": {"verdict": "Yes"}}}]},
        )
        return 200, wrong[self.counts["malformed"] % len(wrong)]

    async def _turn(self) -> None:
        now = asyncio.get_running_loop().time()
        self._next_turn = max(now, self._next_turn) + 1 / self.faults.per_second
        await asyncio.sleep(self._next_turn - now)

    def completion(self, request: Request, content: str) -> dict[str, Any]:
        """A whole body around `content`, with log-probabilities where they are asked for."""
        bound = int(request.get("max_tokens") or 2**30)
        labels = labels_of(request)
        words = [content] if labels else content.split(" ")
        logprobs = {"content": [_first_token(content, labels)]} if request.get("logprobs") else None
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": " ".join(words[:bound]), **self._thought},
            "logprobs": logprobs,
            # As in vLLM: a label that fills the bound ends by it.
            "finish_reason": "length" if len(words) >= bound else "stop",
        }
        read, written = len(prompt_of(request)) // 4, min(len(words), bound)
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        return {"id": "x", "object": "chat.completion", "model": self._model, "choices": [choice], "usage": usage}


def _first_token(content: str, labels: list[str]) -> dict[str, Any]:
    """Raw log-probabilities: half to the answer, a fifth to what is no label, the rest to the other labels."""
    others = [label for label in labels if label != content]
    shares = {content: 0.5, "The": 0.2, **{label: 0.3 / len(others) for label in others}}
    top = [{"token": token, "logprob": _log(share)} for token, share in shares.items()]
    return {"token": content, "logprob": _log(0.5), "top_logprobs": top}


def _log(share: float) -> float:
    return math.log(share) if share > 0 else -9999.0


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:4], "big")


def _error(status: int, message: str) -> tuple[int, dict[str, Any]]:
    return status, {"error": {"message": message, "type": _STATUS[status], "param": None, "code": status}}


def _overflow(bound: int, size: int) -> str:
    # Four characters a token; vLLM stops tokenising one token past its bound and says "at least".
    return (
        f"This model's maximum context length is {bound // 4} tokens. However, your prompt contains {size // 4} input "
        "tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input "
        f"prompt. (parameter=input_tokens, value={size // 4})"
    )


def _instance(schema: dict[str, Any], number: int) -> Any:
    """Something that follows a JSON schema of the simple kinds."""
    if "enum" in schema:
        return schema["enum"][number % len(schema["enum"])]
    kind = schema.get("type")
    if kind == "object":
        properties = schema.get("properties", {}).items()
        return {name: _instance(part, _number(f"{number}{name}")) for name, part in properties}
    if kind == "array":
        return [_instance(schema.get("items", {}), number)]
    simple: dict[Any, Any] = {"integer": number % 10, "number": number % 10 / 10, "boolean": number % 2 == 0}
    return simple.get(kind, f"text {number % 1000}")


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", default="fake")
    parser.add_argument("--yes-if", default="", help="first label to prompts that hold this text, second to others")
    parser.add_argument("--shorter-wins", action="store_true", help="of two replies that are compared")
    for field in fields(Faults):
        name = f"--{field.name.replace('_', '-')}"
        if isinstance(field.default, bool):
            parser.add_argument(name, action="store_true")
        else:
            parser.add_argument(name, type=type(field.default), default=field.default)
    given = vars(parser.parse_args())
    answer = by_marker(given["yes_if"]) if given["yes_if"] else by_shorter if given["shorter_wins"] else by_hash
    faults = Faults(**{field.name: given[field.name] for field in fields(Faults)})
    server = FakeServer(answer, faults, given["port"], given["model"])
    asyncio.run(server.serve(lambda: print(server.url, flush=True)))


if __name__ == "__main__":
    main()
