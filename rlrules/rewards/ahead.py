"""Scoring that goes on beside generation: fed completion by completion, the same scores in the end."""

import time
from collections.abc import Sequence
from concurrent.futures import Future

from rlrules.rewards.base import Context
from rlrules.rewards.coming import Coming
from rlrules.rewards.engine import RewardEngine, ScoredGroup
from rlrules.types import Completion, Group


class Ahead:
    """One rollout, scored as far as it is known.

    A scorer of single completions works on each from when it is told of it, one of groups from when its group is
    complete. A group of which something else was told than what there is in the end is scored afresh.

    Args:
        engine: Scores.
        announced: What each group's completions share, and how many there are.
    """

    def __init__(self, engine: RewardEngine, announced: Sequence[tuple[Context, int]]) -> None:
        self._engine = engine
        self._coming = [Coming(context, size) for context, size in announced]
        self._places = [(number, index) for number, (_, size) in enumerate(announced) for index in range(size)]
        self._began: float | None = None
        self._ended = 0.0
        self._scored = [self._begin(coming) for coming in self._coming]
        self.rescored = 0
        """Groups that were scored afresh."""
        self.overlapped_s = 0.0
        """Seconds from the first completion until all was scored, or until `collect`."""

    def finished(self, row: int, completion: Completion) -> None:
        """Completion `row` of the rollout is there; from any thread, in any order, and too late without effect."""
        number, index = self._places[row]
        self._mark_begun()
        self._coming[number].arrive(index, completion)

    def generated(self, groups: Sequence[Group]) -> None:
        """All completions are there: no scorer needs to wait any more, and the recipe's deadline begins."""
        self._mark_begun()
        self._complete(groups)

    def collect(self, groups: Sequence[Group]) -> list[ScoredGroup]:
        """What `RewardEngine.score` gives for `groups`, once it is there.

        Raises:
            TrainingError: A scorer blocks the event loop past the deadline.
        """
        asked = time.monotonic()
        if self._began is not None:
            self.overlapped_s = (self._ended if all(one.done() for one in self._scored) else asked) - self._began
        self._complete(groups)
        deadline = self._engine.deadline()
        for coming in self._coming:
            coming.want(deadline)
        return self._engine.wait(self._scored, deadline)

    def cancel(self) -> None:
        """Give up: nothing is scored any more."""
        for scored in self._scored:
            scored.cancel()

    def _complete(self, groups: Sequence[Group]) -> None:
        deadline = self._engine.deadline()
        for number, group in enumerate(groups):
            if self._coming[number].complete(group, deadline):
                continue
            self.rescored += 1
            self._scored[number].cancel()
            self._coming[number] = Coming(Context.of(group), len(group.completions))
            self._coming[number].complete(group, deadline)
            self._scored[number] = self._begin(self._coming[number])

    def _begin(self, coming: Coming) -> Future[ScoredGroup]:
        scored = self._engine.begin(coming)
        scored.add_done_callback(self._mark_ended)
        return scored

    def _mark_begun(self) -> None:
        if self._began is None:
            self._began = time.monotonic()

    def _mark_ended(self, _: object) -> None:
        self._ended = time.monotonic()
