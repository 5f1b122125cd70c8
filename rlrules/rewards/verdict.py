"""The reward of a judge in training: is its verdict the right one (Think-RM, section 3.1)?"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from rlrules.errors import DataError
from rlrules.judges.base import Answer
from rlrules.judges.comparison import LABELS, Kind, read_comparison, strength
from rlrules.rewards.base import Context, PointwiseScorer, Resources, ScorerConfig
from rlrules.types import Completion, Score


class VerdictConfig(ScorerConfig):
    """1 for the right verdict, of a multiclass one 0.5 for the right side only, else 0.

    A completion may begin inside its thought, as it does after a template that opens it.
    """

    type: Literal["verdict"] = "verdict"
    verdict: Kind = Field("binary", description="Which is better (A or B), or also by how much (-3 to 3).")
    answer_column: str = Field("label", description="Column with the right verdict; negative: A is better.")

    def columns(self) -> tuple[str, ...]:
        """The one with the right verdict."""
        return (self.answer_column,)

    def build(self, resources: Resources) -> "VerdictScorer":
        """Make the scorer."""
        return VerdictScorer(self.verdict, self.answer_column)


class VerdictScorer(PointwiseScorer):
    """See `VerdictConfig`.

    Args:
        kind: What verdicts there are.
        answer_column: Column with the right one.
    """

    def __init__(self, kind: Kind, answer_column: str) -> None:
        self._kind = kind
        self._answer_column = answer_column

    async def score_one(self, context: Context, completion: Completion) -> Score:
        """Read one completion's verdict and compare it."""
        right = self._right(context.row)
        finish = "length" if completion.truncated else "stop"
        verdict = read_comparison(Answer(completion.text, finish_reason=finish), self._kind)
        if verdict.outcome != "value":
            metrics = {"exact": 0.0, "side": 0.0, "cut_off": float(verdict.outcome == "truncated")}
            return Score(0.0, "malformed", verdict.reason, metrics)
        exact = verdict.label == right
        side = strength(verdict.label) * strength(right) > 0
        metrics = {"exact": float(exact), "side": float(side), "cut_off": 0.0}
        return Score(1.0 if exact else 0.5 * side, metrics=metrics, details={"verdict": verdict.label, "right": right})

    def _right(self, row: Mapping[str, Any]) -> str:
        right = str(row[self._answer_column])
        if right not in LABELS[self._kind]:
            labels = ", ".join(LABELS[self._kind])
            raise DataError(f"column {self._answer_column!r}: {right!r} is no {self._kind} verdict ({labels})")
        return right
