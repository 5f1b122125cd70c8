"""A reward that makes good answers longer and bad ones shorter: Light-IF's cosine length reward (arXiv 2508.03178)."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field, FiniteFloat

from rlrules.rewards.objective_base import Objective, ObjectiveConfig, Outcome
from rlrules.types import Completion, Group, Scored

TOO_LONG, GOOD, BAD = -2.0, 2.0, -1.0


class CosineLengthConfig(ObjectiveConfig):
    """With c = (1 - cos(pi * tokens / max_tokens)) / 2: 2 * score * c where the score is good enough, else -c.

    An answer of `max_tokens` or more is worth -2. For the stage that makes thoughts longer, and for no other: padding
    pays.
    """

    needs_tokens: ClassVar[bool] = True

    type: Literal["cosine_length"] = "cosine_length"
    of: str = Field(description="The reward whose score says whether an answer is good.")
    max_tokens: int = Field(ge=1, description="Tokens, thought included, at which an answer is too long.")
    threshold: FiniteFloat = Field(0.2, description="Scores from here on are good.")

    def rewards_used(self) -> Collection[str]:
        """The one."""
        return (self.of,)

    def build(self) -> "CosineLength":
        """Make the objective."""
        return CosineLength(self.of, self.max_tokens, self.threshold)


class CosineLength(Objective):
    """See `CosineLengthConfig`; a completion without a score has no reward."""

    def __init__(self, of: str, max_tokens: int, threshold: float) -> None:
        self._of, self._max_tokens, self._threshold = of, max_tokens, threshold

    def combine(self, group: Group, scored: Mapping[str, Scored], blanked: Sequence[bool]) -> Outcome:
        """Reward length by the score."""
        scores = scored[self._of].scores
        rewards = [
            None if score.value is None else self._reward(score.value, completion)
            for score, completion in zip(scores, group.completions, strict=True)
        ]
        good = [score.value >= self._threshold for score in scores if score.value is not None]
        long = [completion.tokens >= self._max_tokens for completion in group.completions]
        metrics = {"good": sum(good) / len(good)} if good else {}
        return Outcome(tuple(rewards), {**metrics, "too_long": sum(long) / len(long)})

    def _reward(self, score: float, completion: Completion) -> float:
        if completion.tokens >= self._max_tokens:
            return TOO_LONG
        length = (1 - math.cos(math.pi * completion.tokens / self._max_tokens)) / 2
        return (GOOD * score if score >= self._threshold else BAD) * length
