"""A reward server with a real vLLM judge behind it, which it starts: its load, and what a killed engine costs."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlrules.judges.connection import HttpClient, StatusError, Unreachable

RULES = 4
"""Verdicts on each completion, of which a request has one."""
TOLERANCE = 0.02
"""Of a mean of probabilities: batches of other sizes add in another order."""
STARTED_S, RESTARTED_S = 240.0, 180.0
_LIMITS = ("server.port=0", "server.max_queue=100000", "server.max_in_flight=1024", "judges.verifier.cache=false")


def served_engine(counts: Sequence[int], requests: int, port: int) -> None:
    """Load with `counts` clients, at least `requests` requests each; then the engine is killed under load.

    Raises:
        AssertionError: A reward differs from the one that was given before, or a request is lost.
    """
    with tempfile.TemporaryDirectory() as folder:
        rules = [{"id": f"r{n}", "text": f"The answer is good in respect {n}."} for n in range(RULES)]
        (Path(folder) / "rules.json").write_text(json.dumps({"rules": rules}))
        with _served(Path(folder) / "rules.json", port) as (url, process):
            asyncio.run(_measure(url, process, counts, requests))


async def _measure(url: str, process: "subprocess.Popen[str]", counts: Sequence[int], requests: int) -> None:
    import psutil

    client = HttpClient(url, "none", 10.0)
    print(f"ready after {await _ready(client, STARTED_S):.0f} s", flush=True)
    known: dict[int, float] = {}
    for clients in counts:
        before, started = sum(psutil.Process(process.pid).cpu_times()[:2]), time.monotonic()
        numbers = range(max(requests, clients))
        latencies, rewards = await _ask(client, numbers, clients)
        took = time.monotonic() - started
        busy = 1e3 * (sum(psutil.Process(process.pid).cpu_times()[:2]) - before) / len(numbers)
        ordered = sorted(latencies)
        p50, p95, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.95, 0.99))
        missing = sum(reward is None for reward in rewards.values())
        _hold(known, rewards)
        print(
            f"a real judge behind, {clients} clients, {len(numbers)} requests of one completion and {RULES} verdicts: "
            f"{len(numbers) / took:.2f} a second, p50 {p50:.2f} s, p95 {p95:.2f} s, p99 {p99:.2f} s, "
            f"{busy:.1f} ms of the server's core each, {missing} without a reward",
            flush=True,
        )
    await _killed(client, process, known)
    await client.close()


async def _killed(client: HttpClient, process: "subprocess.Popen[str]", known: dict[int, float]) -> None:
    """Kill the engine while 16 clients ask, and ask again once it is back."""
    import psutil

    numbers = range(32)
    asked = asyncio.create_task(_ask(client, numbers, 16))
    await asyncio.sleep(1.0)
    engines = [
        one for one in psutil.Process(process.pid).children(recursive=True) if "api_server" in str(one.cmdline())
    ]
    engines[-1].kill()  # Before it stands what watches it.
    killed = time.monotonic()
    await _ready(client, RESTARTED_S, ready=False)  # What was found before holds for some seconds.
    await _ready(client, RESTARTED_S)
    back = time.monotonic() - killed
    latencies, rewards = await asked
    _hold(known, rewards)
    missing = sum(reward is None for reward in rewards.values())
    print(
        f"engine killed under load: ready again after {back:.0f} s; of {len(numbers)} requests {missing} without a "
        f"reward, {len(numbers) - missing} with the same as before, the slowest after {max(latencies):.0f} s, all "
        f"{time.monotonic() - killed:.0f} s after the kill",
        flush=True,
    )
    again = (await _ask(client, numbers, 16))[1]
    assert None not in again.values(), "the engine is back, and does not score"
    _hold(known, again)
    print(f"asked again: {len(again)} of {len(numbers)} with the same reward as before", flush=True)


def _hold(known: dict[int, float], rewards: dict[int, float | None]) -> None:
    """Rewards are those that were given before; what is new is remembered."""
    for number, reward in rewards.items():
        if reward is not None:
            assert abs(known.setdefault(number, reward) - reward) <= TOLERANCE, (number, known[number], reward)


async def _ask(client: HttpClient, numbers: range, clients: int) -> tuple[list[float], dict[int, float | None]]:
    """Seconds that each request took, and its reward or None."""
    following, latencies = iter(numbers), []
    rewards: dict[int, float | None] = {}

    async def run() -> None:
        for number in following:
            text = f"Answer {number}, which goes on for a while and then ends."
            groups = [{"prompt": "Name one.", "completions": [{"text": text, "tokens": 12}]}]
            started = time.monotonic()
            try:
                scored: Any = json.loads(await client.post(f"{client.url}/v1/score", {"groups": groups}))
                rewards[number] = scored["groups"][0]["completions"][0]["reward"]
            except StatusError as error:
                print(f"status {error.status}: {error.body[:200]!r}", flush=True)
                rewards[number] = None
            latencies.append(time.monotonic() - started)

    await asyncio.gather(*(run() for _ in range(clients)))
    assert sorted(rewards) == list(numbers)
    return latencies, rewards


async def _ready(client: HttpClient, patience_s: float, ready: bool = True) -> float:
    """Seconds until the server says that its judge answers, or with `ready` false that it does not."""
    started = time.monotonic()
    while True:
        try:
            await client.get(f"{client.url}/ready")
            found = "it is ready"
            if ready:
                return time.monotonic() - started
        except (StatusError, Unreachable) as error:
            found = str(error)
            if not ready:
                return time.monotonic() - started
        if time.monotonic() - started > patience_s:
            raise TimeoutError(f"after {patience_s:g} s: {found}")
        await asyncio.sleep(1.0)


@contextmanager
def _served(rules: Path, port: int) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    places = [f"engines.verifier.port={port}", f"judges.verifier.urls=[http://localhost:{port}/v1]"]
    command = [sys.executable, "-m", "rlrules", "serve", "reward_servers/cpu.yaml", *_LIMITS, *places]
    with subprocess.Popen([*command, f"rewards.rules.rules={rules}"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().rpartition(" at ")[2].strip(), process
        finally:
            process.terminate()
            process.wait(90)
