"""From what all scorers say of a group to one reward per completion."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from rlrules.types import Group, Scored


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a group earns.

    Attributes:
        rewards: One per completion; None where nothing is known, which keeps the completion out of the group's
            mean and out of the gradient.
        metrics: Numbers about the group to average into the run's metrics.
    """

    rewards: tuple[float | None, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)


class Objective(Protocol):
    """Turns all scorers' answers on one group into rewards."""

    def combine(self, group: Group, scored: Mapping[str, Scored]) -> Outcome:
        """Combine; the engine blanks completions whose required scores are missing afterwards."""
        ...


class ObjectiveConfig(BaseModel):
    """Fields that every objective has."""

    model_config = ConfigDict(extra="forbid")

    max_unscored: float = Field(
        0.05, ge=0, le=1, description="Share of completions without a required score past which the run stops."
    )
    deadline_s: float = Field(
        1200.0, gt=0, description="Seconds that scoring one batch may take; what is missing then is unscored."
    )

    def rewards_used(self) -> Collection[str]:
        """Names of the rewards that the objective reads."""
        raise NotImplementedError  # pragma: no cover

    def build(self) -> Objective:
        """Make the objective."""
        raise NotImplementedError  # pragma: no cover


class WeightedSumConfig(ObjectiveConfig):
    """The reward is the weighted sum of the scores."""

    type: Literal["weighted_sum"] = "weighted_sum"
    weights: dict[str, float] = Field(min_length=1, description="A weight for each reward that counts.")
    normalize: Literal["none", "group"] = Field(
        "none", description="group: each score is standardised within its group before the sum."
    )

    def rewards_used(self) -> Collection[str]:
        """The weighted ones."""
        return self.weights

    def build(self) -> "WeightedSum":
        """Make the objective."""
        return WeightedSum(self.weights, self.normalize == "group")


class GateConfig(ObjectiveConfig):
    """The reward is `of` where `gate` reaches the threshold, else 0."""

    type: Literal["gate"] = "gate"
    gate: str
    of: str
    threshold: float = 1.0

    def rewards_used(self) -> Collection[str]:
        """Both."""
        return (self.gate, self.of)

    def build(self) -> "Gate":
        """Make the objective."""
        return Gate(self.gate, self.of, self.threshold)


AnyObjectiveConfig = Annotated[WeightedSumConfig | GateConfig, Field(discriminator="type")]


class WeightedSum:
    """See `WeightedSumConfig`.

    An optional score that is missing counts as its group's mean: a missing judge must neither raise nor lower a
    completion against its siblings. One that is missing in the whole group does not count there.
    """

    def __init__(self, weights: Mapping[str, float], normalize: bool) -> None:
        self._weights = dict(weights)
        self._normalize = normalize

    def combine(self, group: Group, scored: Mapping[str, Scored]) -> Outcome:
        """Sum up."""
        total = np.zeros(len(group.completions))
        for name, weight in self._weights.items():
            column = values(scored[name])
            if np.isnan(column).all():
                continue
            column = np.where(np.isnan(column), np.nanmean(column), column)
            total += weight * (standardized(column) if self._normalize else column)
        return Outcome(tuple(total.tolist()))


class Gate:
    """See `GateConfig`; a score that is missing on the side that decides leaves the completion without a reward."""

    def __init__(self, gate: str, of: str, threshold: float) -> None:
        self._gate, self._of, self._threshold = gate, of, threshold

    def combine(self, group: Group, scored: Mapping[str, Scored]) -> Outcome:
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


def values(scored: Scored) -> NDArray[np.float64]:
    """Shape (G,): the scores' values, NaN where unscored."""
    return np.array([np.nan if score.value is None else score.value for score in scored.scores], dtype=np.float64)


def standardized(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shape (G,): zero mean, unit deviation (Bessel's, epsilon 1e-4 as in TRL), NaN left out and kept."""
    known = column[~np.isnan(column)]
    deviation = known.std(ddof=1) if len(known) > 1 else 0.0
    return (column - known.mean()) / (deviation + 1e-4) if len(known) else column
