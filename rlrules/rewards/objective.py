"""The objectives of a recipe: the plain ones, and the union of all."""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, FiniteFloat

from rlrules.rewards.objective_base import Objective, ObjectiveConfig, Outcome, rewards_of, standardized, values
from rlrules.rewards.objective_cosine import CosineLengthConfig
from rlrules.rewards.objective_pairwise import PairwiseConfig
from rlrules.rewards.objective_trust import TrustConfig
from rlrules.types import Group, Scored


class WeightedSumConfig(ObjectiveConfig):
    """The reward is the weighted sum of the scores."""

    type: Literal["weighted_sum"] = "weighted_sum"
    weights: dict[str, FiniteFloat] = Field(min_length=1, description="A weight for each reward that counts.")
    normalize: Literal["none", "group"] = Field(
        "none", description="group: each score is standardised within its group before the sum."
    )

    def rewards_used(self) -> Collection[str]:
        """The weighted ones."""
        return self.weights

    def group_problem(self, size: int) -> str:
        """One completion alone has nothing to be standardised within."""
        return "normalize: group needs groups of 2 or more" if self.normalize == "group" and size < 2 else ""

    def build(self) -> "WeightedSum":
        """Make the objective."""
        return WeightedSum(self.weights, self.normalize == "group")


class GateConfig(ObjectiveConfig):
    """The reward is `of` where `gate` reaches the threshold, else 0."""

    type: Literal["gate"] = "gate"
    gate: str
    of: str
    threshold: FiniteFloat = 1.0

    def rewards_used(self) -> Collection[str]:
        """Both."""
        return (self.gate, self.of)

    def build(self) -> "Gate":
        """Make the objective."""
        return Gate(self.gate, self.of, self.threshold)


AnyObjectiveConfig = Annotated[
    WeightedSumConfig | GateConfig | CosineLengthConfig | PairwiseConfig | TrustConfig, Field(discriminator="type")
]


class WeightedSum(Objective):
    """See `WeightedSumConfig`.

    An optional score that is missing counts as its group's mean: a missing judge must neither raise nor lower a
    completion against its siblings. One that is missing in the whole group does not count there.
    """

    def __init__(self, weights: Mapping[str, float], normalize: bool) -> None:
        self._weights = dict(weights)
        self._normalize = normalize

    def combine(self, group: Group, scored: Mapping[str, Scored], blanked: Sequence[bool]) -> Outcome:
        """Sum up."""
        total = np.zeros(len(group.completions))
        for name, weight in self._weights.items():
            # What is blanked has no say in what its siblings' scores are measured against.
            column = np.where(np.array(blanked, dtype=bool), np.nan, values(scored[name]))
            if np.isnan(column).all():
                continue
            column = np.where(np.isnan(column), np.nanmean(column), column)
            total += weight * (standardized(column) if self._normalize else column)
        return Outcome(rewards_of(total))


class Gate(Objective):
    """See `GateConfig`; a score that is missing on the side that decides leaves the completion without a reward."""

    def __init__(self, gate: str, of: str, threshold: float) -> None:
        self._gate, self._of, self._threshold = gate, of, threshold

    def combine(self, group: Group, scored: Mapping[str, Scored], blanked: Sequence[bool]) -> Outcome:
        """Let through what passes."""
        rewards: list[float | None] = []
        for gate, of in zip(scored[self._gate].scores, scored[self._of].scores, strict=True):
            if gate.value is None:
                rewards.append(None)
            else:
                rewards.append(of.value if gate.value >= self._threshold else 0.0)
        known = [score.value for score in scored[self._gate].scores if score.value is not None]
        passed = float(np.mean([value >= self._threshold for value in known])) if known else 0.0
        return Outcome(tuple(rewards), {"gate_passed": passed})
