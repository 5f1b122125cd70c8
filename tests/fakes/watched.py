"""A scorer that tells what it is asked about and answers when told to, and what waits for that."""

import asyncio
import threading
import time
from collections.abc import Callable

from rlrules.judges.loop import submit
from rlrules.rewards.base import Context, PointwiseScorer
from rlrules.types import Completion, Score

WAIT_S = 20.0


class Watched(PointwiseScorer):
    """Gives each completion's tokens, once `go` is set; tells whom it is asked about and what was cancelled."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self.go = threading.Event()

    async def score_one(self, context: Context, completion: Completion) -> Score:
        self.asked.append(completion.text)
        try:
            while not self.go.is_set():
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.cancelled.append(completion.text)
            raise
        return Score(float(completion.tokens), details={"said": completion.text})


def wait_for(true: Callable[[], bool]) -> None:
    """Wait until it is."""
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)


def tasks_left() -> int:
    """Tasks on the loop that scores, once those that were cancelled had their turn."""

    async def count() -> int:
        for _ in range(10):
            await asyncio.sleep(0)
        return len(asyncio.all_tasks()) - 1

    return submit(count()).result(WAIT_S)
