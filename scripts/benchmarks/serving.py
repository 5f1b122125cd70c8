"""The reward server: its load, what it costs over scoring in process, its memory, its scale."""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from benchmarks.common import fake_judge
from benchmarks.served_engine import served_engine
from rlrules.types import Completion, Group, Message

PARTS = ("load", "engine", "client", "overhead", "memory", "scale")
CLIENTS = [1, 16, 64, 256]
SIZE, RULES = 4, 4
"""Completions in a group, and rules that a judge verifies on each."""
WARM_S, WINDOW_S = 10.0, 20.0
"""Seconds until judges are counted, and for which they are."""
RULE_ONLY = """\
rewards:
  short: {type: length, free: 20, per_tokens: 100}
  sentence: {type: regex, pattern: '.*[.!?]'}
objective: {type: weighted_sum, weights: {short: 1, sentence: 1}}
"""


def serving(
    part: Annotated[list[str] | None, typer.Option(help=f"{', '.join(PARTS)}; default: all.")] = None,
    requests: Annotated[int, typer.Option(help="Requests of the memory part.")] = 100_000,
    seconds: Annotated[float, typer.Option(help="Of each load.")] = 10.0,
    clients: Annotated[list[int] | None, typer.Option(help=f"Of the load part; default: {CLIENTS}.")] = None,
    rounds: Annotated[int, typer.Option(help="Pairs of runs that take turns, in the overhead part.")] = 5,
    bound: Annotated[float, typer.Option(help="Verdicts a second of a fake judge: overhead and scale parts.")] = 80.0,
    judge: Annotated[str, typer.Option(help="A running vLLM server for the load part; none: a fake judge.")] = "",
    model: Annotated[str, typer.Option(help="Its model.")] = "fake",
    engine_port: Annotated[int, typer.Option(help="Of the vLLM server that the engine part starts.")] = 8011,
) -> None:
    """Throughput and latency of a reward server on this machine, its clients beside it."""
    parts = part or list(PARTS)
    if "load" in parts:
        asyncio.run(_load(seconds, clients or CLIENTS, judge, model))
    if "engine" in parts:
        served_engine(clients or CLIENTS, 16, engine_port)
    if "client" in parts:
        asyncio.run(_client(rounds))
    if "overhead" in parts:
        asyncio.run(_overhead(rounds, bound))
    if "memory" in parts:
        asyncio.run(_memory(requests))
    if "scale" in parts:
        asyncio.run(_scale(bound))


async def _load(seconds: float, counts: Sequence[int], judge: str, model: str) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(_server(folder, RULE_ONLY))
        await _under_load("rules only", server, counts, seconds)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        judged = judge or stack.enter_context(fake_judge("--latency-s", "0.02"))
        server = stack.enter_context(_server(folder, _judged(folder, [judged], model)))
        await _under_load("a judge behind", server, counts, seconds)


async def _under_load(
    what: str, server: "tuple[str, subprocess.Popen[str]]", counts: Sequence[int], seconds: float
) -> None:
    import psutil

    url, process = server[0], psutil.Process(server[1].pid)
    await _count(url, 1, 1, "first")  # Loads what is loaded late.
    for clients in counts:
        before = sum(process.cpu_times()[:2])
        latencies, took, failed = await _for(url, clients, seconds, f"{what}-{clients}")
        busy = 1e3 * (sum(process.cpu_times()[:2]) - before) / max(1, len(latencies))
        ordered = sorted(latencies)
        p50, p95, p99 = (1e3 * ordered[min(len(ordered) - 1, int(len(ordered) * q))] for q in (0.5, 0.95, 0.99))
        print(
            f"{what}, {clients} clients: {len(ordered) / took:.0f} groups of {SIZE} a second, "
            f"p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, {busy:.2f} ms of a core each, {failed} failed",
            flush=True,
        )


async def _client(rounds: int) -> None:
    """What a verdict costs this process in CPU time, all that scoring does included; the judge is another process."""
    from rlrules.recipe.build import build_rewards
    from rlrules.recipe.load import load_recipe
    from rlrules.recipe.schema import GrpoRecipe

    for cache in (False, True):
        costs = []
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            judge = stack.enter_context(fake_judge())
            (folder / "served.yaml").write_text(_judged(folder, [judge], "fake"))
            kept = f"judges.verifier.cache={folder / 'answers.sqlite' if cache else 'false'}"
            engine = build_rewards(load_recipe(folder / "served.yaml", [kept]).of(GrpoRecipe)).engine
            for number in range(rounds + 1):
                asked = [_group(f"client-{number}-{index}") for index in range(64)]
                started = time.process_time()
                scored = await engine.score_async(asked)
                costs.append(1e3 * (time.process_time() - started) / (64 * SIZE * RULES))
                assert all(reward is not None for group in scored for reward in group.outcome.rewards)
        told = f"median {statistics.median(costs[1:]):.2f} ({min(costs[1:]):.2f} to {max(costs[1:]):.2f})"
        print(f"CPU ms a verdict, {'answers kept' if cache else 'no cache'}: {told}", flush=True)


async def _overhead(rounds: int, bound: float) -> None:
    """The same groups in process and over loopback, in turns, against one bounded judge; nothing is cached."""
    from rlrules.recipe.build import build_rewards
    from rlrules.recipe.load import load_recipe
    from rlrules.recipe.schema import GrpoRecipe

    groups, ratios = 16, []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        judge = stack.enter_context(fake_judge("--per-second", str(bound)))
        url, _ = stack.enter_context(_server(folder, _judged(folder, [judge], "fake")))
        engine = build_rewards(load_recipe(folder / "served.yaml").of(GrpoRecipe)).engine
        for number in range(rounds + 1):
            asked = [_group(f"inside-{number}-{index}") for index in range(groups)]
            started = time.monotonic()
            scored = await engine.score_async(asked)
            inside = time.monotonic() - started
            assert all(reward is not None for group in scored for reward in group.outcome.rewards)
            started = time.monotonic()
            latencies, _, failed = await _count(url, groups, groups, f"outside-{number}")
            outside = time.monotonic() - started
            assert len(latencies) == groups and not failed
            if number:  # The first round opens connections.
                ratios.append(outside / inside)
                print(f"in process {inside:.2f} s, served {outside:.2f} s", flush=True)
    print(f"served / in process: median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


async def _memory(requests: int) -> None:
    import psutil

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url, process = stack.enter_context(_server(folder, RULE_ONLY))
        watched, sizes, step = psutil.Process(process.pid), [], max(1, requests // 10)
        for number in range(10):
            _, took, failed = await _count(url, step, 64, f"memory-{number}")
            sizes.append(watched.memory_info().rss / 2**20)
            print(
                f"{(number + 1) * step} requests: {sizes[-1]:.1f} MiB, {step / took:.0f}/s, {failed} failed", flush=True
            )
    print(f"growth from the second to the last tenth: {sizes[-1] - sizes[1]:+.1f} MiB")


async def _scale(bound: float) -> None:
    """Judge endpoints, each bounded, behind one server: what they answer once all are busy."""
    rates: dict[int, float] = {}
    for count in (1, 2, 4):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            judges = [stack.enter_context(fake_judge("--per-second", str(bound))) for _ in range(count)]
            url, _ = stack.enter_context(_server(folder, _judged(folder, judges, "fake")))
            load = asyncio.create_task(_for(url, 16 * count, WARM_S + WINDOW_S, f"scale-{count}"))
            await asyncio.sleep(WARM_S)
            before, started = await asyncio.to_thread(_answered, judges), time.monotonic()
            await asyncio.sleep(WINDOW_S - 1)
            after, took = await asyncio.to_thread(_answered, judges), time.monotonic() - started
            assert not (await load)[2]
            rates[count] = (after - before) / took
            share = rates[count] / (count * rates[1])
            print(f"{count} endpoints: {rates[count]:.1f} verdicts/s, {share:.3f} of linear", flush=True)


def _answered(judges: Sequence[str]) -> int:
    told = [urllib.request.urlopen(url.removesuffix("/v1") + "/counts", timeout=30) for url in judges]
    return sum(int(json.load(reply)["answered"]) for reply in told)


@contextmanager
def _server(folder: Path, recipe: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    (folder / "served.yaml").write_text(recipe)
    limits = ["server.port=0", "server.max_queue=100000", "server.max_in_flight=1024"]
    command = [sys.executable, "-m", "rlrules", "serve", "served.yaml", *limits]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    with (folder / "log").open("w") as log:
        started = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    with started:
        assert started.stdout is not None
        try:
            yield started.stdout.readline().rpartition(" at ")[2].strip(), started
        finally:
            started.terminate()


def _judged(folder: Path, urls: list[str], model: str) -> str:
    rules = [{"id": f"r{number}", "text": f"The answer is good in respect {number}."} for number in range(RULES)]
    (folder / "rules.json").write_text(json.dumps({"rules": rules}))
    recipe: dict[str, Any] = {
        "judges": {"verifier": {"type": "openai", "urls": urls, "model": model, "cache": False}},
        "rewards": {"rules": {"type": "rules", "judge": "verifier", "rules": str(folder / "rules.json")}},
        "objective": {"type": "weighted_sum", "weights": {"rules": 1}},
    }
    return json.dumps(recipe)


def _group(variant: str) -> Group:
    prompt: Message = {"role": "user", "content": "Name one."}
    return Group((prompt,), tuple(Completion(text, 12) for text in _texts(variant)))


def _texts(variant: str) -> list[str]:
    return [f"{variant}: answer {number}, which goes on for a while and then ends." for number in range(SIZE)]


async def _count(url: str, requests: int, clients: int, variant: str) -> tuple[list[float], float, int]:
    """Post so many groups; latencies of those scored, seconds in all, and how many were not."""
    numbers = iter(range(requests))
    return await _clients(url, clients, variant, lambda: next(numbers, None))


async def _for(url: str, clients: int, seconds: float, variant: str) -> tuple[list[float], float, int]:
    """Post groups for so long."""
    until, count = time.monotonic() + seconds, iter(range(10**9))
    return await _clients(url, clients, variant, lambda: next(count) if time.monotonic() < until else None)


async def _clients(url: str, clients: int, variant: str, following: Any) -> tuple[list[float], float, int]:
    """Connections that each post one group after another; plain sockets, so that the clients cost little."""
    place, latencies, failed = urlsplit(url), [], 0

    async def run() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        while (number := following()) is not None:
            completions = [{"text": text, "tokens": 12} for text in _texts(f"{variant}-{number}")]
            body = json.dumps({"groups": [{"prompt": "Name one.", "completions": completions}]}).encode()
            head = (
                f"POST /v1/score HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
            )
            started = time.monotonic()
            writer.write(head.encode() + b"\r\n\r\n" + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(answer.partition("content-length: ")[2].partition("\r\n")[0])
            content = await reader.readexactly(length)
            if " 200 " in answer.partition("\r\n")[0] and b'"reward":null' not in content:
                latencies.append(time.monotonic() - started)
            else:
                failed += 1
        writer.close()

    started = time.monotonic()
    await asyncio.gather(*(run() for _ in range(clients)))
    return latencies, time.monotonic() - started, failed
