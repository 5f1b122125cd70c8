"""One event loop in a daemon thread, on which all judges of a process do their work.

Trainers, servers and tests call judges from loops that come and go; an HTTP client, a semaphore or a queue kept
across loops breaks. Here they are made and used on a single loop that lives as long as the process.
"""

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")
_starting = threading.Lock()


def _loop() -> asyncio.AbstractEventLoop:
    with _starting:
        return _loop_of(os.getpid())


@cache
def _loop_of(process: int) -> asyncio.AbstractEventLoop:
    # By process: a fork takes the loop along, but not the thread that runs it.
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="rlrules-judges", daemon=True).start()
    return loop


def submit(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Run `work` on the judges' loop; wait for the future from any other thread or wrap it in any other loop."""
    return asyncio.run_coroutine_threadsafe(work, _loop())


async def on_judge_loop(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` on the judges' loop from whatever loop the caller is on."""
    if asyncio.get_running_loop() is _loop():
        return await work
    return await asyncio.wrap_future(submit(work))
