import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from rlrules.errors import JudgeError
from rlrules.judges import Answer, JudgeFailure, Usage
from rlrules.judges.client import OpenAIBackend
from rlrules.judges.fit import ask_fitting
from rlrules.judges.http import Servers
from rlrules.types import Message
from tests.fakes.openai_server import FakeServer, Faults, label_of
from tests.fakes.raw_server import RawServer, answering
from tests.judges.asking import YES_NO, backend, config, ready, served_judge, together, verdicts

pytestmark = pytest.mark.anyio
Connect = Callable[..., tuple[OpenAIBackend, Usage]]
YES = b'{"choices": [{"message": {"content": "Yes"}}]}'


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Makes backends, and closes them on the loop that they were used on."""
    made: list[OpenAIBackend] = []

    def make(*urls: str, **fields: Any) -> tuple[OpenAIBackend, Usage]:
        asked, usage = backend(*urls, **fields)
        made.append(asked)
        return asked, usage

    yield make
    for asked in made:
        await asked.close()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def failure_of(work: Awaitable[Answer]) -> JudgeFailure:
    with pytest.raises(JudgeFailure) as caught:
        await work
    return caught.value


async def test_a_labelled_question_asks_for_one_constrained_token_with_probabilities(connect: Connect) -> None:
    with FakeServer(keep_bodies=True) as server:
        asked, _ = connect(server.url)
        answer = await asked.complete(ready("Is it?", draw=7))
    [body] = server.bodies
    assert body == {
        "model": "fake",
        "messages": [{"role": "user", "content": "Is it?"}],
        "max_tokens": 1,
        "temperature": 0.0,
        "seed": 7,
        "logprobs": True,
        "top_logprobs": 20,
        "structured_outputs": {"choice": ["Yes", "No"]},
    }
    assert answer.text == label_of("Is it?", YES_NO)
    assert set(answer.logprobs) == {"Yes", "No", "The"} and answer.completion_tokens == 1 and answer.seconds > 0


async def test_a_server_that_is_not_held_to_labels_is_not_asked_to_be(connect: Connect) -> None:
    with FakeServer(lambda _: "Yes", keep_bodies=True) as server:
        asked, _ = connect(server.url, constrained=False)
        assert (await asked.complete(ready("Is it?"))).text == "Yes"
    assert "structured_outputs" not in server.bodies[0]


async def test_a_turn_of_the_assistant_is_gone_on_with(connect: Connect) -> None:
    turn: Message = {"role": "assistant", "content": "<think>hm</think><answer>"}
    begun = ready("Which?", ("A", "B"))
    with FakeServer(keep_bodies=True) as server:
        asked, _ = connect(server.url)
        await asked.complete(replace(begun, messages=(*begun.messages, turn)))
        await asked.complete(begun)
    assert server.bodies[0]["messages"][-1] == turn
    assert server.bodies[0]["continue_final_message"] is True and server.bodies[0]["add_generation_prompt"] is False
    assert not {"continue_final_message", "add_generation_prompt"} & server.bodies[1].keys()


async def test_how_the_served_prompt_ends(connect: Connect) -> None:
    messages: list[Message] = [{"role": "user", "content": "Hello. " * 20}]
    with FakeServer(prompt_end="<|assistant|><think>\n") as server, FakeServer() as other:
        asked, _ = connect(server.url)
        ending = await asked.prompt_end(messages)
        assert ending is not None and ending.endswith("Hello. <|assistant|><think>\n") and len(ending) == 32
        without, _ = connect(other.url, retries=0)
        assert await without.prompt_end(messages) is None
    down, _ = connect("http://127.0.0.1:9/v1", timeout_s=0.3, retries=0)
    with pytest.raises(JudgeFailure):
        await down.prompt_end(messages)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_free_text_schema_and_a_thought_apart(connect: Connect, name: str) -> None:
    schema = {"type": "object", "properties": {"r1": {"enum": ["Yes", "No"]}, "why": {"type": "string"}}}
    with FakeServer(thought="Hmm.", reasoning_field=name) as server:
        asked, _ = connect(server.url)
        answer = await asked.complete(ready("All of them?", (), schema=schema))
        cut = await asked.complete(ready("Say more.", (), max_tokens=2))
    assert json.loads(answer.text)["r1"] in YES_NO
    assert answer.reasoning == "Hmm." and answer.finish_reason == "stop" and answer.logprobs == {}
    assert cut.finish_reason == "length" and len(cut.text.split()) == 2


@pytest.mark.parametrize(
    ("faults", "kind", "told"),
    [
        (Faults(error_share=1), "connection", "status 500"),
        (Faults(refuse=True), "connection", "status 429"),
        (Faults(drop_share=1), "connection", "disconnected"),
        (Faults(malformed_share=1), "empty", "not an answer"),
        (Faults(hang_share=1), "timeout", "no answer within 0.5 s"),
    ],
)
async def test_what_may_mend_is_tried_again_and_no_more_than_that(
    connect: Connect, faults: Faults, kind: str, told: str
) -> None:
    with FakeServer(faults=faults) as server:
        asked, usage = connect(server.url, timeout_s=0.5 if faults.hang_share else 5.0, retries=2)
        started = time.monotonic()
        failure = await failure_of(asked.complete(ready("?")))
    assert failure.kind == kind and told in str(failure) and server.url in str(failure) and "\n" not in str(failure)
    assert server.counts["requests"] == 3 and usage.retried == 2
    assert time.monotonic() - started < 15


async def test_a_failed_attempt_goes_to_another_endpoint(connect: Connect) -> None:
    with FakeServer(faults=Faults(error_share=1)) as bad, FakeServer() as good:
        asked, usage = connect(bad.url, good.url, retries=1)
        answers = await together(asked.complete(ready(str(n))) for n in range(40))
    assert [answer.text for answer in answers] == [label_of(str(n), YES_NO) for n in range(40)]
    assert usage.retried == bad.counts["requests"] > 0


async def test_what_the_server_refuses_is_not_tried_again(connect: Connect) -> None:
    with FakeServer() as server:
        asked, usage = connect(server.url.removesuffix("/v1"))
        failure = await failure_of(asked.complete(ready("?")))
    assert failure.kind == "rejected" and "status 404" in str(failure) and usage.retried == 0


async def test_overflow_tells_limit_and_size_and_cutting_mends_it(connect: Connect) -> None:
    question_part = "Is this so? "
    with FakeServer(faults=Faults(context_chars=4000), keep_bodies=True) as server:
        asked, usage = connect(server.url)
        failure = await failure_of(asked.complete(ready("x" * 10_000)))
        assert (failure.kind, failure.limit, failure.size, usage.retried) == ("overflow", 1000, 2500, 0)
        text = "begin " + "word " * 3000 + "end"
        answer, shown = await ask_fitting(lambda part: asked.complete(ready(question_part + part)), text)
    assert answer.text in YES_NO
    assert 1500 < len(shown) < 4000 and shown.startswith("begin") and shown.endswith("end")
    assert server.bodies[-1]["messages"][0]["content"] == question_part + shown


VLLM = [
    (
        "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input tokens, "
        "which exceeds this limit even without any output tokens. (parameter=input_tokens, value=2049)",
        (2048, 2049),
    ),
    (
        "This model's maximum context length is 2048 tokens. However, your prompt contains 500000 characters (more "
        "than 262144 characters, which is the upper bound for 2047 input tokens).",
        (262144, 500000),
    ),
    ("The decoder prompt (length 3000) is longer than the maximum model length of 2048.", (2048, 3000)),
    ("the request exceeds the available context size, try increasing it", (0, 0)),
]


@pytest.mark.parametrize(("message", "numbers"), VLLM)
async def test_every_wording_of_an_overflow_is_one(connect: Connect, message: str, numbers: tuple[int, int]) -> None:
    body = json.dumps({"error": {"message": message, "code": 400}}).encode()
    async with RawServer(answering(b"HTTP/1.1 400 Bad Request", body)) as url:
        failure = await failure_of(connect(url)[0].complete(ready("?")))
    assert (failure.kind, failure.limit, failure.size) == ("overflow", *numbers)


async def test_odd_texts_arrive_whole_and_what_cannot_be_sent_is_refused(connect: Connect) -> None:
    odd = ["\x00\x1b\x7f", "𝔘𝔫𝔦\u2028\u202e", "x" * 100_000, '"}],"model":"other"']
    with FakeServer(keep_bodies=True) as server:
        asked, usage = connect(server.url)
        for text in odd:
            assert (await asked.complete(ready(text))).text == label_of(text, YES_NO)
        assert [body["messages"][0]["content"] for body in server.bodies] == odd
        failure = await failure_of(asked.complete(ready("\ud800")))
    assert failure.kind == "rejected" and "UTF-8" in str(failure) and usage.retried == 0


async def test_the_deadline_is_of_the_whole_attempt_not_of_each_byte(connect: Connect) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n")
        for _ in range(1000):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with RawServer(trickle) as url:
        started = time.monotonic()
        failure = await failure_of(connect(url, timeout_s=0.3, retries=0)[0].complete(ready("?")))
    assert failure.kind == "timeout" and 0.25 < time.monotonic() - started < 10


async def test_a_judge_that_is_down_fails_after_about_one_deadline_with_its_url(connect: Connect) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    asked, usage = connect(url, timeout_s=2.0)
    started = time.monotonic()
    failures = await asyncio.gather(*(asked.complete(ready(str(n))) for n in range(200)), return_exceptions=True)
    assert 1.9 < time.monotonic() - started < 10
    assert {type(failure) for failure in failures} == {JudgeFailure}
    assert url in str(failures[0]) and "no endpoint answers" in str(failures[0])
    assert usage.retried == 0  # Nothing was ever sent.
    started = time.monotonic()
    await failure_of(asked.complete(ready("later")))
    assert time.monotonic() - started < 1.9


async def test_an_outage_shorter_than_the_deadline_is_waited_out(connect: Connect) -> None:
    port = free_port()
    asked, _ = connect(f"http://127.0.0.1:{port}/v1", retries=0, timeout_s=10.0)
    work = asyncio.create_task(together(asked.complete(ready(str(n))) for n in range(20)))
    await asyncio.sleep(1.0)
    with FakeServer(port=port):
        answers = await asyncio.wait_for(work, 5.0)
    assert [answer.text for answer in answers] == [label_of(str(n), YES_NO) for n in range(20)]


async def test_an_endpoint_that_is_away_and_comes_back_is_used_again(connect: Connect) -> None:
    port = free_port()
    with FakeServer() as steady:
        asked, _ = connect(f"http://127.0.0.1:{port}/v1", steady.url)

        async def right(start: int) -> None:
            answers = await together(asked.complete(ready(str(n))) for n in range(start, start + 20))
            assert [answer.text for answer in answers] == [label_of(str(start + n), YES_NO) for n in range(20)]

        await right(0)
        assert steady.counts["answered"] == 20
        with FakeServer(port=port) as back:
            await asyncio.sleep(0.6)
            await right(20)  # One of them is the probe.
            await right(40)
    assert back.counts["answered"] == 1 + 10


async def test_no_more_requests_are_under_way_than_the_bound(connect: Connect) -> None:
    with FakeServer(faults=Faults(latency_s=0.02)) as server:
        asked, _ = connect(server.url, max_in_flight=8)
        await together(asked.complete(ready(str(n))) for n in range(80))
    assert server.busiest == 8


async def test_the_server_may_say_how_long_to_wait(connect: Connect) -> None:
    seen: list[float] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(time.monotonic())
        status = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1" if len(seen) == 1 else b"HTTP/1.1 200 OK"
        await answering(status, YES)(reader, writer)

    async with RawServer(handler) as url:
        assert (await connect(url)[0].complete(ready("?"))).text == "Yes"
    assert seen[1] - seen[0] > 0.95


async def test_closing_ends_what_waits_and_the_next_question_opens_again(connect: Connect) -> None:
    with FakeServer(faults=Faults(latency_s=0.3)) as server:
        asked, _ = connect(server.url, max_in_flight=1, retries=0)
        work = [asyncio.create_task(asked.complete(ready(str(n)))) for n in range(3)]
        await asyncio.sleep(0.1)
        await asked.close()
        ends = await asyncio.wait_for(asyncio.gather(*work, return_exceptions=True), 5.0)
        assert all(isinstance(end, JudgeFailure | Answer) for end in ends) and isinstance(ends[-1], JudgeFailure)
        assert (await asked.complete(ready("again"))).text == label_of("again", YES_NO)


async def test_a_mistake_of_the_caller_is_a_typed_failure_too() -> None:
    async def send(client: Any) -> None:
        raise KeyError("nowhere")

    servers = Servers(config("http://127.0.0.1:1/v1"), backend("http://x")[1])
    with pytest.raises(JudgeFailure, match="KeyError: 'nowhere'"):
        await servers.request(send)


async def test_the_key_comes_from_the_environment(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(JudgeError, match="JUDGE_KEY is not set; export it"):
        connect("http://x/v1", api_key_env="JUDGE_KEY")
    monkeypatch.setenv("JUDGE_KEY", "secret")
    heads: list[bytes] = []
    async with RawServer(answering(b"HTTP/1.1 200 OK", YES, heads=heads)) as url:
        await connect(url, api_key_env="JUDGE_KEY")[0].complete(ready("?"))
    assert b"authorization: bearer secret" in heads[0].lower()


@pytest.mark.parametrize(
    "fields", [{"urls": []}, {"urls": ["localhost:8000/v1"]}, {"max_in_flight": 0}, {"retires": 1}]
)
def test_a_section_that_cannot_work_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config("http://x/v1", **fields)


def test_a_slow_server_is_kept_busy() -> None:
    with FakeServer(faults=Faults(per_second=200)) as server:
        started = time.monotonic()
        found = verdicts(served_judge(server.url), [ready(str(n)) for n in range(300)])
        seconds = time.monotonic() - started
    assert [verdict.label for verdict in found] == [label_of(str(n), YES_NO) for n in range(300)]
    assert 1.4 < seconds < 15
