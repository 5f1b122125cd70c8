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

    def row_problem(self, row: Mapping[str, Any]) -> str:
        """The right verdict must be one that the completion can give."""
        value = row[self.answer_column]
        if _label(value) in LABELS[self.verdict]:
            return ""
        labels = ", ".join(LABELS[self.verdict])
        return f"column {self.answer_column!r}: {value!r} is no {self.verdict} verdict ({labels})"

    def build(self, resources: Resources) -> "VerdictScorer":
        """Make the scorer."""
        return VerdictScorer(self)


class VerdictScorer(PointwiseScorer):
    """See `VerdictConfig`.

    Args:
        config: The recipe's section.
    """

    def __init__(self, config: VerdictConfig) -> None:
        self._config = config

    async def score_one(self, context: Context, completion: Completion) -> Score:
        """Read one completion's verdict and compare it."""
        if problem := self._config.row_problem(context.row):
            raise DataError(problem)
        right = _label(context.row[self._config.answer_column])
        finish = "length" if completion.truncated else "stop"
        verdict = read_comparison(Answer(completion.text, finish_reason=finish), self._config.verdict)
        if verdict.outcome != "value":
            metrics = {"exact": 0.0, "side": 0.0, "cut_off": float(verdict.outcome == "truncated")}
            return Score(0.0, "malformed", verdict.reason, metrics)
        exact = verdict.label == right
        side = strength(verdict.label) * strength(right) > 0
        metrics = {"exact": float(exact), "side": float(side), "cut_off": 0.0}
        return Score(1.0 if exact else 0.5 * side, metrics=metrics, details={"verdict": verdict.label, "right": right})


def _label(value: object) -> str:
    # Numbers that went through a table with gaps are floats.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
