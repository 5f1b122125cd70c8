"""A vLLM server that a policy's versions are put on, without a model: what it answers tells which weights it held.

A version's folder holds a file `weights` with a number; the base model's is 0. A completion's first token is the number
of the weights that it was computed with, the others are its prompt's.
"""

import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Body = dict[str, Any]
Answer = tuple[int, Any]


class FakePolicyServer:
    """The server; a context manager that runs it on a thread of its own.

    Args:
        sync: "lora" or "full": what it can do.
        latency: Seconds that the completion of a request takes.
        meddle: Called with each completion's request and its number before it is computed; what it returns, if
            anything, is answered instead: a status and a body, "drop" or "hang".
        logprobs_mode, max_lora_rank, max_model_len: What it says of itself.

    Attributes:
        url: Base URL, with /v1; the same after a restart.
        counts: Requests by route, and "answered" completions.
        adapters: Weights by name.
        weights: Of the base model, as they are now.
        salts: `cache_salt` of each completion.
    """

    def __init__(
        self,
        sync: str,
        latency: Callable[[Body], float] = lambda body: 0.0,
        meddle: Callable[[Body, int], Any] = lambda body, number: None,
        logprobs_mode: str = "processed_logprobs",
        max_lora_rank: int = 16,
        max_model_len: int = 100,
    ) -> None:
        self.sync = sync
        self.latency = latency
        self.meddle = meddle
        self.counts: Counter[str] = Counter()
        self.salts: list[str] = []
        self._about = {"logprobs_mode": logprobs_mode, "max_lora_rank": max_lora_rank, "max_model_len": max_model_len}
        self._lock = threading.Lock()
        self._port = 0
        self.forget()

    def forget(self) -> None:
        """Be as a process that was just started."""
        self.adapters: dict[str, int] = {}
        self.weights, self.version, self.process = 0, "", uuid.uuid4().hex

    def start(self) -> None:
        """Listen, on the same port as before."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def _answer(self, body: Body) -> None:
                said = fake.answer(self.path, body)
                if said in ("drop", "hang") or fake.http is not self.server:
                    time.sleep(5 if said == "hang" else 0)
                    return
                status, content = said
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 256

            def handle_error(self, *_: Any) -> None:
                pass  # A client that has gone.

        self.forget()
        self.http: ThreadingHTTPServer | None = Server(("127.0.0.1", self._port), Handler)
        self._port = self.http.server_address[1]
        self.url = f"http://127.0.0.1:{self._port}/v1"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def kill(self) -> None:
        """Listen no more; whoever waits for an answer gets none."""
        http, self.http = self.http, None
        if http is not None:
            http.shutdown()
            http.server_close()

    def __enter__(self) -> "FakePolicyServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def answer(self, path: str, body: Body) -> Any:
        """Status and body, or what goes wrong."""
        route = path.partition("?")[0]
        with self._lock:
            self.counts[route] += 1
            number = self.counts[route]
        if route == "/v1/completions":
            said = self.meddle(body, number)
            if said is not None:
                return said
            time.sleep(self.latency(body))
            return self._completion(body)
        with self._lock:
            return self._route(route, body)

    def _completion(self, body: Body) -> Answer:
        weights = self.adapters.get(body["model"]) if self.sync == "lora" else self.weights
        if weights is None or (self.sync == "full" and body["model"] != "base"):
            return _refused(404, f"The model `{body['model']}` does not exist.")
        ids = [weights, *body["prompt"]]
        with self._lock:
            self.counts["answered"] += 1
            self.salts.append(body["cache_salt"])
        return 200, completion(ids, [-0.5 * place for place in range(len(ids))])

    def _route(self, route: str, body: Body) -> Answer:
        if route == "/v1/models":
            models = [{"id": "base", "max_model_len": self._about["max_model_len"]}]
            return 200, {"data": models + [{"id": name, "parent": "base"} for name in self.adapters]}
        if route == "/server_info":
            lora = {"max_lora_rank": self._about["max_lora_rank"]} if self.sync == "lora" else None
            told = {"model_config": {"logprobs_mode": self._about["logprobs_mode"]}, "lora_config": lora}
            return 200, {"vllm_config": told}
        if route == "/collective_rpc" and self.sync == "full":
            return 200, {"results": [self._worker(body["method"], **body["kwargs"])]}
        if route == "/v1/load_lora_adapter" and self.sync == "lora":
            return self._load(body["lora_name"], body["lora_path"])
        if route == "/v1/unload_lora_adapter" and self.sync == "lora":
            if self.adapters.pop(body["lora_name"], None) is None:
                return _refused(404, "no such adapter")
            return 200, "unloaded"
        return _refused(404, f"no {route}")

    def _load(self, name: str, path: str) -> Answer:
        if not name or name in self.adapters:
            return _refused(400, f"The lora adapter '{name}' has already been loaded." if name else "no name")
        if not Path(path).is_dir():
            return _refused(404, f"The lora adapter '{name}' cannot be found at '{path}'.")
        self.adapters[name] = weights_of(Path(path))
        return 200, "loaded"

    def _worker(self, method: str, folder: str = "", version: str = "") -> dict[str, str | bool]:
        further: dict[str, str | bool] = {}
        if method == "load_policy" and version == self.version:
            pass
        elif method == "load_policy" and not Path(folder).is_dir():
            further = {"problem": f"{folder} does not exist where the server runs"}
        elif method == "load_policy":
            self.weights, self.version = weights_of(Path(folder)), version
            further = {"loaded": True}
        elif method == "restore_policy":
            self.weights, self.version = 0, ""
        return {"process": self.process, "version": self.version, **further}


def completion(ids: list[int], logprobs: list[float], finish_reason: str = "stop") -> Body:
    """A body with one completion."""
    choice = {"token_ids": ids, "logprobs": {"token_logprobs": logprobs}, "finish_reason": finish_reason}
    return {"object": "text_completion", "choices": [choice]}


def weights_of(folder: Path) -> int:
    """The number in a version's folder; 1 where it holds real weights."""
    file = folder / "weights"
    return int(file.read_text()) if file.exists() else 1


def _refused(status: int, message: str) -> Answer:
    return status, {"error": {"message": message, "code": status}}
