"""Runs all scorers on all groups at once, and never lets a failure become a number."""

import asyncio
import math
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, replace
from typing import Any

from rlrules.errors import TrainingError
from rlrules.judges.loop import on_judge_loop, submit
from rlrules.rewards.base import Scorer, unscored
from rlrules.rewards.objective_base import Objective, Outcome
from rlrules.types import Group, Score, Scored

GRACE_S = 30.0


@dataclass(frozen=True, slots=True)
class _Deadline:
    """So many seconds from the start, and when that is by the event loop's clock."""

    seconds: float
    until: float


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """A group with all that was said of it.

    Attributes:
        group: The group.
        scored: Each reward's scores, by the reward's name.
        outcome: What the objective makes of them, blank where a required score is missing.
        blanked: Per completion: whether a required score is missing.
    """

    group: Group
    scored: Mapping[str, Scored]
    outcome: Outcome
    blanked: tuple[bool, ...]

    def reasons(self, index: int) -> dict[str, str]:
        """Why scores of completion `index` are not "ok", by reward."""
        scores = {name: scored.scores[index] for name, scored in self.scored.items()}
        return {name: score.reason for name, score in scores.items() if score.reason}

    def record(self, index: int) -> dict[str, Any]:
        """What a log line says of completion `index`."""
        scores = {name: scored.scores[index] for name, scored in self.scored.items()}
        return {
            "scores": {name: score.value for name, score in scores.items()},
            "reasons": self.reasons(index),
            "details": {name: dict(score.details) for name, score in scores.items() if score.details},
            "reward": self.outcome.rewards[index],
        }


class RewardEngine:
    """All rewards of a recipe.

    Args:
        scorers: By the reward's name.
        objective: Combines their scores.
        required: Rewards without which a completion has none.
        deadline_s: Seconds that one call of `score` may take; scores missing then are unscored.
    """

    def __init__(
        self, scorers: Mapping[str, Scorer], objective: Objective, required: Collection[str], deadline_s: float
    ) -> None:
        self._scorers = dict(scorers)
        self._objective = objective
        self._required = frozenset(required)
        self._deadline_s = deadline_s

    def score(self, groups: Sequence[Group]) -> list[ScoredGroup]:
        """Score `groups` from a thread without an event loop; one result per group, in order, to be settled.

        Raises:
            TrainingError: A scorer blocks the event loop past the deadline.
        """
        future = submit(self._score(groups))
        try:
            return future.result(timeout=self._deadline_s + GRACE_S)
        except FutureTimeoutError:
            future.cancel()
            raise TrainingError(
                f"scoring did not end {GRACE_S:g} s after its deadline of {self._deadline_s:g} s: a scorer blocks "
                "the event loop; let it await, or run its work in a thread"
            ) from None

    async def score_async(self, groups: Sequence[Group], deadline_s: float = math.inf) -> list[ScoredGroup]:
        """The same from any event loop; `deadline_s` is another bound beside the recipe's."""
        return await on_judge_loop(self._score(groups, deadline_s))

    def settle(self, groups: Sequence[ScoredGroup], batch: Sequence[float]) -> list[ScoredGroup]:
        """Finish what `score` made, once all groups of the batch are known on all ranks.

        Args:
            groups: Of this rank.
            batch: The `totals` of all ranks' groups, `summed`.
        """
        settled = (self._objective.settle(group.outcome, batch) for group in groups)
        return [
            replace(group, outcome=_blank(outcome, group.blanked))
            for group, outcome in zip(groups, settled, strict=True)
        ]

    def learn(self, batch: Sequence[float]) -> None:
        """Let the objective learn from a batch that is trained on.

        Args:
            batch: As for `settle`.
        """
        self._objective.learn(batch)

    @property
    def objective(self) -> Objective:
        """What combines the scores."""
        return self._objective

    async def _score(self, groups: Sequence[Group], deadline_s: float = math.inf) -> list[ScoredGroup]:
        seconds = min(self._deadline_s, deadline_s)
        deadline = _Deadline(seconds, asyncio.get_running_loop().time() + seconds)
        return await asyncio.gather(*(self._group(group, deadline) for group in groups))

    async def _group(self, group: Group, deadline: _Deadline) -> ScoredGroup:
        first = [name for name in self._scorers if name in self._objective.first()]
        early = await self._all(group, first, deadline)
        spared = {name: self._objective.spares(name, early) for name in self._scorers if name not in early}
        late = await self._all(group, [name for name, reason in spared.items() if not reason], deadline)
        nothing = {name: Score.unscored(reason) for name, reason in spared.items() if reason}
        none = {name: _none(len(group.completions), score) for name, score in nothing.items()}
        found = {**early, **late, **none}
        return self._combine(group, {name: found[name] for name in self._scorers})

    async def _all(self, group: Group, names: Sequence[str], deadline: _Deadline) -> dict[str, Scored]:
        answers = await asyncio.gather(*(self._one(group, name, deadline) for name in names))
        return dict(zip(names, answers, strict=True))

    async def _one(self, group: Group, name: str, deadline: _Deadline) -> Scored:
        expected = len(group.completions)
        try:
            async with asyncio.timeout_at(deadline.until):
                scored = await self._scorers[name].score(group)
        except TimeoutError:
            return _none(expected, Score.unscored(f"reward {name}: no score within {deadline.seconds:g} s"))
        except Exception as error:
            return _none(expected, unscored(error))
        if len(scored.scores) != expected:
            reason = f"reward {name}: {len(scored.scores)} scores for {expected} completions"
            return _none(expected, Score.unscored(reason))
        return scored

    def _combine(self, group: Group, scored: dict[str, Scored]) -> ScoredGroup:
        blanked = tuple(
            any(scored[name].scores[index].value is None for name in self._required)
            for index in range(len(group.completions))
        )
        outcome = self._objective.combine(group, scored, blanked)
        return ScoredGroup(group, scored, _blank(outcome, blanked), blanked)


def totals(groups: Sequence[ScoredGroup]) -> tuple[float, ...]:
    """What these groups add to the totals of their batch."""
    return summed([group.outcome.totals for group in groups])


def summed(parts: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Totals added up, place by place; parts without any do not count."""
    return tuple(map(sum, zip(*(part for part in parts if part), strict=True)))


def _blank(outcome: Outcome, blanked: Sequence[bool]) -> Outcome:
    rewards = (None if blank else reward for blank, reward in zip(blanked, outcome.rewards, strict=True))
    return replace(outcome, rewards=tuple(rewards))


def _none(count: int, score: Score) -> Scored:
    return Scored((score,) * count)
