"""A penalty on long answers, with an allowance that costs nothing."""

from typing import ClassVar, Literal

from pydantic import Field

from rlrules.rewards.base import Context, PointwiseScorer, Resources, ScorerConfig
from rlrules.types import Completion, Score


class LengthConfig(ScorerConfig):
    """The value is -max(0, tokens - free) / per_tokens (AutoRule's length-penalty baseline by default)."""

    needs_tokens: ClassVar[bool] = True

    type: Literal["length"] = "length"
    free: int = Field(300, ge=0, description="Tokens that cost nothing.")
    per_tokens: float = Field(600.0, gt=0, description="Tokens beyond the free ones that cost 1.")

    def build(self, resources: Resources) -> "LengthScorer":
        """Make the scorer."""
        return LengthScorer(self.free, self.per_tokens)


class LengthScorer(PointwiseScorer):
    """See `LengthConfig`."""

    def __init__(self, free: int, per_tokens: float) -> None:
        self._free = free
        self._per_tokens = per_tokens

    async def score_one(self, context: Context, completion: Completion) -> Score:
        """Score one completion by its token count."""
        value = -max(0, completion.tokens - self._free) / self._per_tokens
        return Score(value + 0.0, metrics={"tokens": float(completion.tokens)})
