"""Runs all scorers on all groups at once, and never lets a failure become a number."""

import asyncio
import contextlib
import math
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from rlrules.errors import TrainingError
from rlrules.judges.loop import on_judge_loop, submit
from rlrules.rewards.base import PointwiseScorer, Scorer, unscored
from rlrules.rewards.coming import Coming, Deadline, Whole
from rlrules.rewards.objective_base import Objective, Outcome
from rlrules.types import Group, Score, Scored

GRACE_S = 30.0
T = TypeVar("T")


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
        in_process: Rewards that compute with torch in this process: they begin only when their scores are waited for,
            as they would share the trainer's device, its random numbers and torch's default type.
    """

    def __init__(
        self,
        scorers: Mapping[str, Scorer],
        objective: Objective,
        required: Collection[str],
        deadline_s: float,
        in_process: Collection[str] = (),
    ) -> None:
        self._scorers = dict(scorers)
        self._objective = objective
        self._required = frozenset(required)
        self._deadline_s = deadline_s
        self._in_process = frozenset(in_process)

    def score(self, groups: Sequence[Group]) -> list[ScoredGroup]:
        """Score `groups` from a thread without an event loop; one result per group, in order, to be settled.

        Raises:
            TrainingError: A scorer blocks the event loop past the deadline.
        """
        deadline = self.deadline()
        [scored] = self.wait([submit(self._score(groups, deadline))], deadline)
        return scored

    def deadline(self) -> Deadline:
        """The recipe's, from now."""
        return Deadline.after(self._deadline_s)

    def begin(self, coming: Coming) -> Future[ScoredGroup]:
        """Score a group in the background, as its completions come; cancelling the future gives up."""
        return submit(self._group(coming))

    def wait(self, begun: Sequence[Future[T]], deadline: Deadline) -> list[T]:
        """What was begun, in order, once it is there, or is left unscored by `deadline`; from a thread without a loop.

        Raises:
            TrainingError: A scorer blocks the event loop past the deadline.
        """
        try:
            return [one.result(max(0.0, deadline.until + GRACE_S - time.monotonic())) for one in begun]
        except FutureTimeoutError:
            raise TrainingError(
                f"scoring did not end {GRACE_S:g} s after its deadline of {deadline.seconds:g} s: a scorer blocks "
                "the event loop; let it await, or run its work in a thread"
            ) from None
        finally:
            for one in begun:
                one.cancel()

    async def score_async(self, groups: Sequence[Group], deadline_s: float = math.inf) -> list[ScoredGroup]:
        """The same from any event loop; `deadline_s` is another bound beside the recipe's."""
        return await on_judge_loop(self._score(groups, Deadline.after(min(self._deadline_s, deadline_s))))

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

    async def _score(self, groups: Sequence[Group], deadline: Deadline) -> list[ScoredGroup]:
        return await asyncio.gather(*(self._group(Whole(group, deadline)) for group in groups))

    async def _group(self, coming: Coming | Whole) -> ScoredGroup:
        first = [name for name in self._scorers if name in self._objective.first()]
        early = await self._all(coming, first)
        spared = {name: self._objective.spares(name, early) for name in self._scorers if name not in early}
        late = await self._all(coming, [name for name, reason in spared.items() if not reason])
        nothing = {name: Score.unscored(reason) for name, reason in spared.items() if reason}
        none = {name: _none(coming.size, score) for name, score in nothing.items()}
        found = {**early, **late, **none}
        return self._combine(await coming.group(), {name: found[name] for name in self._scorers})

    async def _all(self, coming: Coming | Whole, names: Sequence[str]) -> dict[str, Scored]:
        answers = await asyncio.gather(*(self._one(coming, name) for name in names))
        return dict(zip(names, answers, strict=True))

    async def _one(self, coming: Coming | Whole, name: str) -> Scored:
        expected = coming.size
        known = coming.wanted() if name in self._in_process else coming.closed()
        bound = asyncio.timeout(None)

        def limit(deadline: asyncio.Future[Deadline]) -> None:
            # Told in the turn of the loop in which the scores came, too late to be taken off: nothing is left to bound.
            with contextlib.suppress(RuntimeError):
                bound.reschedule(deadline.result().until)

        try:
            async with bound:
                # Completions may be scored long before it begins to run.
                known.add_done_callback(limit)
                try:
                    scored = await self._ahead(coming, name)
                finally:
                    known.remove_done_callback(limit)
        except Exception as error:
            if bound.expired():
                return _none(expected, Score.unscored(f"reward {name}: no score within {known.result().seconds:g} s"))
            return _none(expected, unscored(error))
        if len(scored.scores) != expected:
            reason = f"reward {name}: {len(scored.scores)} scores for {expected} completions"
            return _none(expected, Score.unscored(reason))
        return scored

    async def _ahead(self, coming: Coming | Whole, name: str) -> Scored:
        """Score as early as the scorer can: completions one by one, or the group once it is complete."""
        scorer = self._scorers[name]
        if isinstance(coming, Whole):
            return await scorer.score(coming.given)
        if name in self._in_process:
            await coming.wanted()
        if isinstance(scorer, PointwiseScorer) and type(scorer).score is PointwiseScorer.score:
            return await scorer.score_coming(coming.context, coming.completions())
        return await scorer.score(await coming.group())

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
