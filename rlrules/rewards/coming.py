"""A group whose completions are still being generated."""

import asyncio
import contextlib
import threading
import time
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import TypeVar

from rlrules.rewards.base import Context
from rlrules.types import Completion, Group

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadline:
    """So many seconds from the start, and when that is by the clock of `time.monotonic`, which event loops go by."""

    seconds: float
    until: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """That many seconds from now."""
        return cls(seconds, time.monotonic() + seconds)


@dataclass(frozen=True, slots=True)
class Whole:
    """A group that is all there, and whose scores are waited for."""

    given: Group
    deadline: Deadline

    @property
    def size(self) -> int:
        """G."""
        return len(self.given.completions)

    async def group(self) -> Group:
        """The group."""
        return self.given

    def closed(self) -> asyncio.Future[Deadline]:
        """Its deadline."""
        return _known(self.deadline)

    def wanted(self) -> asyncio.Future[Deadline]:
        """Its deadline."""
        return _known(self.deadline)


class Coming:
    """What is known of a group so far: told from any thread, awaited on the event loop that scores.

    Args:
        context: What its completions share.
        size: G.
    """

    def __init__(self, context: Context, size: int) -> None:
        self.context = context
        self.size = size
        self._completions: list[Future[Completion]] = [Future() for _ in range(size)]
        self._closed: Future[Deadline] = Future()
        self._wanted: Future[Deadline] = Future()
        self._telling = threading.Lock()

    def arrive(self, index: int, completion: Completion) -> None:
        """One completion is there; what is told of it a second time changes nothing."""
        with self._telling:
            _tell(self._completions[index], completion)

    def complete(self, group: Group, deadline: Deadline) -> bool:
        """The group is known as it is.

        Args:
            group: The group.
            deadline: When what does not wait to be wanted must be scored.

        Returns:
            Whether what was told before is what there is; where not, nothing is taken over.
        """
        with self._telling:
            if not self._agrees(group):
                return False
            for told, completion in zip(self._completions, group.completions, strict=True):
                _tell(told, completion)
            _tell(self._closed, deadline)
            return True

    def want(self, deadline: Deadline) -> None:
        """From now on the scores are waited for; `deadline` is for those that begin only now."""
        _tell(self._wanted, deadline)

    def completions(self) -> list[asyncio.Future[Completion]]:
        """G futures, in order, of the loop that scores."""
        return [_awaitable(told) for told in self._completions]

    async def group(self) -> Group:
        """The group, once all its completions are there."""
        completions = await asyncio.gather(*self.completions())
        return Group(self.context.prompt, tuple(completions), self.context.row, self.context.progress)

    def closed(self) -> asyncio.Future[Deadline]:
        """The deadline of what may begin before, once it is known that what was told is right."""
        return _awaitable(self._closed)

    def wanted(self) -> asyncio.Future[Deadline]:
        """The deadline of what begins when the scores are waited for, once they are."""
        return _awaitable(self._wanted)

    def _agrees(self, group: Group) -> bool:
        if Context.of(group) != self.context or len(group.completions) != self.size:
            return False
        known = zip(self._completions, group.completions, strict=True)
        return all(not told.done() or told.result() == completion for told, completion in known)


def _tell(future: "Future[T]", value: T) -> None:
    with contextlib.suppress(InvalidStateError):  # Told before.
        future.set_result(value)


def _awaitable(future: "Future[T]") -> "asyncio.Future[T]":
    if future.done():
        return _known(future.result())
    # Shielded: whoever gives up waiting must not take it from the others.
    return asyncio.shield(asyncio.wrap_future(future))


def _known(value: T) -> "asyncio.Future[T]":
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future
