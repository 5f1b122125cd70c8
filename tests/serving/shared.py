"""A reward server for tests: on a thread of this process, or as the process that users start."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from rlrules.recipe.build import build_rewards
from rlrules.recipe.load import load_recipe
from rlrules.recipe.schema import GrpoRecipe
from rlrules.serving.app import make_app
from rlrules.serving.run import _listener

ROOT = Path(__file__).parents[2]
PLAIN = """\
rewards:
  short: {type: length, free: 2, per_tokens: 10}
  form: {type: regex, pattern: '.*good.*'}
objective: {type: weighted_sum, weights: {short: 1, form: 2}}
"""
FORM = """\
rewards: {form: {type: regex, pattern: '.*good.*'}}
objective: {type: weighted_sum, weights: {form: 2}}
"""
JUDGED = """\
judges:
  v: {type: openai, urls: [URL], model: fake, cache: CACHE, timeout_s: 3, retries: 2}
rewards: {rules: {type: rules, judge: v, rules: RULES}}
objective: {type: weighted_sum, weights: {rules: 1}}
"""


def judged(folder: Path, *urls: str, rules: int = 2, cache: str = "false") -> str:
    """A recipe whose rules a judge at `urls` verifies."""
    entries = ", ".join(f'{{"id": "r{number}", "text": "rule {number}"}}' for number in range(rules))
    (folder / "rules.json").write_text(f'{{"rules": [{entries}]}}')
    text = JUDGED.replace("[URL]", str(list(urls)).replace("'", '"')).replace("CACHE", cache)
    return text.replace("RULES", str(folder / "rules.json"))


def application(folder: Path, recipe: str, *overrides: str, token: str | None = None) -> Any:
    """The application of a recipe, given as text."""
    (folder / "served.yaml").write_text(recipe)
    loaded = load_recipe(folder / "served.yaml", overrides).of(GrpoRecipe)
    return make_app(loaded, build_rewards(loaded), token)


@contextmanager
def running(app: Any) -> Iterator[str]:
    """The application behind a real socket; yields its URL."""
    with _listener("127.0.0.1", 0) as listener:
        config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        wait_until(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


@contextmanager
def serving(folder: Path, recipe: str, *overrides: str, token: str | None = None) -> Iterator[str]:
    """A recipe, given as text, served on a thread; yields the URL."""
    with running(application(folder, recipe, *overrides, token=token)) as url:
        yield url


@contextmanager
def process(
    folder: Path, recipe: str, *overrides: str, env: dict[str, str] | None = None
) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """`rlrules serve` of a recipe, given as text; yields its URL and the process, killed where it still runs."""
    (folder / "served.yaml").write_text(recipe)
    command = [sys.executable, "-m", "rlrules", "serve", "served.yaml", "server.port=0", *overrides]
    started = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "RLRULES_CACHE": str(folder / "cache")} | (env or {}),
        stdout=subprocess.PIPE,
        stderr=(folder / "stderr").open("w"),
        text=True,
    )
    with started:
        assert started.stdout is not None
        try:
            line = started.stdout.readline()
            assert " at " in line, (folder / "stderr").read_text()
            yield line.rpartition(" at ")[2].strip(), started
        finally:
            started.kill()


def group(prompt: Any, *texts: str, tokens: int = 2, **more: Any) -> dict[str, Any]:
    """A group as `/v1/score` takes it."""
    return {"prompt": prompt, "completions": [{"text": text, "tokens": tokens} for text in texts], **more}


def rewards_of(reply: httpx2.Response) -> list[list[float | None]]:
    """The rewards of an answer, by group."""
    assert reply.status_code == 200, reply.text
    return [[one["reward"] for one in made["completions"]] for made in reply.json()["groups"]]


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def raw(url: str, request: bytes, seconds: float = 10) -> bytes:
    """Send these bytes and read until the server closes the connection."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        connection.sendall(request)
        parts: list[bytes] = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def metric(text: str, name: str, **labels: str) -> float:
    """The sum of a metric over all that has these labels."""
    total = 0.0
    for line in text.splitlines():
        told, _, value = line.rpartition(" ")
        if told.split("{")[0] == name and all(f'{key}="{label}"' in told for key, label in labels.items()):
            total += float(value)
    return total


def post(url: str, route: str, body: object, headers: dict[str, str] | None = None, seconds: float = 30) -> Any:
    """Post JSON."""
    return httpx2.post(url + route, json=body, headers=headers, timeout=seconds)
