"""Scorers for tests: one that any policy can move, one that fails."""

from typing import Literal

from accelerate import PartialState

from rlrules.rewards.base import Context, PointwiseScorer, Resources, ScorerConfig
from rlrules.types import Completion, Score


class Letters(ScorerConfig):
    """The share of one letter, which differs between completions of any policy."""

    type: Literal["tests.e2e.scorers:Letters"]
    letter: str = "e"

    def build(self, resources: Resources) -> "LetterShare":
        return LetterShare(self.letter)


class LetterShare(PointwiseScorer):
    def __init__(self, letter: str) -> None:
        self.letter = letter

    async def score_one(self, context: Context, completion: Completion) -> Score:
        return Score(completion.text.count(self.letter) / max(1, len(completion.text)))


class Planted(ScorerConfig):
    """What the row says, whatever the completion: a domain of known difficulty."""

    type: Literal["tests.e2e.scorers:Planted"]

    def columns(self) -> tuple[str, ...]:
        return ("solved",)

    def build(self, resources: Resources) -> "PlantedScorer":
        return PlantedScorer()


class PlantedScorer(PointwiseScorer):
    async def score_one(self, context: Context, completion: Completion) -> Score:
        return Score(float(context.row["solved"]))


class FailsOnRank(ScorerConfig):
    type: Literal["tests.e2e.scorers:FailsOnRank"]
    rank: int

    def build(self, resources: Resources) -> "Failing":
        return Failing(self.rank)


class Failing(PointwiseScorer):
    def __init__(self, rank: int) -> None:
        self.rank = rank

    async def score_one(self, context: Context, completion: Completion) -> Score:
        if PartialState().process_index == self.rank:
            raise RuntimeError(f"no luck on rank {self.rank}")
        return Score(float(completion.tokens))
