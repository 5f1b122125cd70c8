"""A third party's scorer, as the documentation shows it."""

from typing import Literal

from rlrules.rewards.base import Context, PointwiseScorer, Resources, ScorerConfig
from rlrules.types import Completion, Score


class NeedsAnswer(ScorerConfig):
    type: Literal["tests.recipe.custom:NeedsAnswer"]

    def columns(self) -> tuple[str, ...]:
        return ("answer",)

    def build(self, resources: Resources) -> "Contains":
        return Contains()


class Contains(PointwiseScorer):
    async def score_one(self, context: Context, completion: Completion) -> Score:
        return Score(float(context.row["answer"] in completion.text))
