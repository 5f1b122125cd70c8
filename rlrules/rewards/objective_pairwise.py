"""Advantages straight from comparisons, without a score per completion between (Think-RM, section 4.2)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat

from rlrules.rewards.objective_base import Objective, ObjectiveConfig, Outcome, rewards_of, standardized, values
from rlrules.rewards.pairwise import Epsilon, Normalize, Ranking, denominator, rank, scaled
from rlrules.types import Group, Scored

Array = NDArray[np.float64]
ROUNDING = 1e-12


class PairwiseConfig(ObjectiveConfig):
    """The advantage is the weighted sum of the comparisons' advantage and the standardised pointwise scores.

    Several rewards that compare are one matrix: the weighted mean of their strengths, its advantage weighted by the
    sum of their weights.
    """

    makes_advantages: ClassVar[bool] = True
    compares: ClassVar[bool] = True

    type: Literal["pairwise"] = "pairwise"
    weights: dict[str, FiniteFloat] = Field(min_length=1, description="A weight for each reward that counts.")
    normalize: Normalize = Field(
        "group", description="Divide by the strengths' spread within the group, within the batch, or not at all."
    )
    eps: Epsilon = Field("relative", description="paper: 1e-6 inside the root, whatever the strengths' scale.")

    def rewards_used(self) -> Collection[str]:
        """The weighted ones."""
        return self.weights

    def group_problem(self, size: int) -> str:
        """One completion alone has no place in a ranking."""
        return "type: pairwise needs groups of 2 or more" if size < 2 else ""

    def build(self) -> "Pairwise":
        """Make the objective."""
        return Pairwise(self.weights, self.normalize, self.eps)


class Pairwise(Objective):
    """See `PairwiseConfig`.

    Completions without a required score leave the matrix, so that the others' advantages still sum to 0. A completion
    that no comparison reaches has none, or only its pointwise part where there is one; so it is for the whole group
    where an optional judge gave nothing.

    Args:
        weights: By the reward's name.
        normalize: What the ranking is divided by.
        eps: How that is kept from 0.
    """

    def __init__(self, weights: Mapping[str, float], normalize: Normalize, eps: Epsilon) -> None:
        self._weights = {name: weight for name, weight in weights.items() if weight}
        self._normalize = normalize
        self._eps = eps

    def combine(self, group: Group, scored: Mapping[str, Scored], blanked: Sequence[bool]) -> Outcome:
        """Rank by the comparisons, scale, add the pointwise scores."""
        kept = ~np.array(blanked, dtype=bool)
        compared = [name for name in self._weights if scored[name].comparisons is not None]
        matrix, weight = self._matrix({name: scored[name] for name in compared}, kept)
        ranking = rank(matrix)
        pointwise = self._pointwise({name: scored[name] for name in self._weights if name not in compared}, kept)
        by = 1.0 if self._normalize == "none" else denominator(ranking.squares, ranking.pairs, self._eps)
        parts = {"ranking": weight * ranking.values, "pointwise": pointwise}
        totals = (ranking.squares, float(ranking.pairs))
        made = _sum(parts, 1.0 if self._normalize == "batch" else by)
        return Outcome(rewards_of(made), _metrics(ranking, by, made), totals, parts)

    def settle(self, outcome: Outcome, totals: Sequence[float]) -> Outcome:
        """Divide by what all groups of the batch share."""
        if self._normalize != "batch":
            return outcome
        squares, pairs = totals
        by = denominator(squares, int(pairs), self._eps)
        made = _sum(outcome.parts, by)
        return replace(outcome, rewards=rewards_of(made), metrics={**outcome.metrics, **_spread(by, made)})

    def _matrix(self, compared: Mapping[str, Scored], kept: NDArray[np.bool_]) -> tuple[Array, float]:
        """The weighted mean of all strengths, and the sum of their weights' sizes."""
        size = len(kept)
        total, terms, weight = np.zeros((size, size)), np.zeros((size, size)), 0.0
        for name, scored in compared.items():
            assert scored.comparisons is not None
            strengths = scored.comparisons.strengths
            # Without a single comparison it does not count here; with some, the missing ones are missing in the sum.
            if np.isfinite(strengths[~np.eye(size, dtype=bool)]).any():
                total = total + self._weights[name] * strengths
                terms = terms + np.abs(self._weights[name] * strengths)
                weight += abs(self._weights[name])
        if not weight:
            return np.full((size, size), np.nan), 1.0
        # What cancels leaves rounding, and a ranking has no size of its own below which it would be noise.
        mean: Array = np.where(np.abs(total) <= ROUNDING * terms, total * 0.0, total) / weight
        mean[~kept], mean[:, ~kept] = np.nan, np.nan
        return mean, weight

    def _pointwise(self, scored: Mapping[str, Scored], kept: NDArray[np.bool_]) -> Array:
        """The weighted sum of the standardised scores of the completions kept; NaN where none is known."""
        total = np.full(len(kept), np.nan)
        for name, answers in scored.items():
            column = standardized(np.where(kept, values(answers), np.nan))
            if not np.isnan(column).all():
                # An optional score that is missing counts as its group's mean.
                total = np.nan_to_num(total) + self._weights[name] * np.nan_to_num(column)
        return np.where(kept, total, np.nan)


def _sum(parts: Mapping[str, Array], by: float) -> Array:
    ranking, pointwise = scaled(parts["ranking"], by), parts["pointwise"]
    total: Array = np.where(np.isnan(ranking) & np.isnan(pointwise), np.nan, np.nansum([ranking, pointwise], axis=0))
    return total


def _metrics(ranking: Ranking, by: float, made: Array) -> dict[str, float]:
    metrics = {"kappa": ranking.inconsistency, **_spread(by, made)}
    return {name: value for name, value in metrics.items() if np.isfinite(value)}


def _spread(by: float, made: Array) -> dict[str, float]:
    known = made[~np.isnan(made)]
    return {"den": by, "advantage_std": float(known.std())} if len(known) else {}
