"""What an objective is: from what all scorers say of a group to one reward per completion."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

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
        totals: Numbers that are summed over all groups of the batch, on all ranks, for `Objective.settle`.
        parts: Arrays of shape (G,) that `settle` makes rewards of.
    """

    rewards: tuple[float | None, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    totals: tuple[float, ...] = ()
    parts: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


class Objective(Protocol):
    """Turns all scorers' answers on one group into rewards.

    One with a running state has `state` and `restore` as well, which checkpoints save and give back.
    """

    def first(self) -> Collection[str]:
        """Rewards that are scored before all others of a group, for `spares`."""
        return ()

    def spares(self, name: str, scored: Mapping[str, Scored]) -> str:
        """Why a reward need not be scored for a group, in words; empty where it must.

        Args:
            name: A reward that is not among the first.
            scored: What the first say of the group.
        """
        return ""

    def combine(self, group: Group, scored: Mapping[str, Scored], blanked: Sequence[bool]) -> Outcome:
        """Combine one group's scores.

        Args:
            group: The group.
            scored: What each scorer says of it, by the reward's name.
            blanked: Per completion: a required score is missing, so that the engine leaves it without a reward
                whatever this says.
        """
        ...

    def settle(self, outcome: Outcome, totals: Sequence[float]) -> Outcome:
        """Finish an outcome once the whole batch is known.

        Args:
            outcome: What `combine` made of one group.
            totals: Its `totals`, summed over the batch.
        """
        return outcome

    def learn(self, totals: Sequence[float]) -> None:
        """Learn from a batch that is trained on, once it is settled; the same on all ranks.

        Args:
            totals: As for `settle`.
        """
        return None


class ObjectiveConfig(BaseModel):
    """Fields that every objective has."""

    model_config = ConfigDict(extra="forbid")

    makes_advantages: ClassVar[bool] = False
    """Whether its rewards are advantages already, which TRL must not scale again."""
    compares: ClassVar[bool] = False
    """Whether it needs a reward that compares completions."""
    needs_tokens: ClassVar[bool] = False
    """Whether it reads a completion's token count."""

    max_unscored: float = Field(
        0.05, ge=0, le=1, description="Share of completions without a required score past which the run stops."
    )
    deadline_s: float = Field(
        1200.0, gt=0, description="Seconds that scoring one batch may take; what is missing then is unscored."
    )

    def rewards_used(self) -> Collection[str]:
        """Names of the rewards that the objective reads."""
        raise NotImplementedError  # pragma: no cover

    def group_problem(self, size: int) -> str:
        """Why rewards of groups of `size` completions mean nothing, in words; empty where they do."""
        return ""

    def optional(self) -> Collection[str]:
        """Rewards among these without which a completion still has one, whatever their own sections say."""
        return ()

    def build(self) -> Objective:
        """Make the objective."""
        raise NotImplementedError  # pragma: no cover


def values(scored: Scored) -> NDArray[np.float64]:
    """Shape (G,): the scores' values, NaN where unscored."""
    return np.array([np.nan if score.value is None else score.value for score in scored.scores], dtype=np.float64)


def standardized(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shape (G,): zero mean, unit deviation (Bessel's, epsilon 1e-4 as in TRL), NaN left out and kept."""
    known = column[~np.isnan(column)]
    deviation = known.std(ddof=1) if len(known) > 1 else 0.0
    return (column - known.mean()) / (deviation + 1e-4) if len(known) else column


def rewards_of(column: NDArray[np.float64]) -> tuple[float | None, ...]:
    """An array's numbers as rewards, None for NaN."""
    return tuple(None if np.isnan(value) else value for value in column.tolist())
