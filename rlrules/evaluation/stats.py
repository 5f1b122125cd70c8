"""Intervals and agreement: everything resamples with a generator of its own and imports without torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlrules.rules.agreement import Share, share

__all__ = [
    "RESAMPLES",
    "Interval",
    "Share",
    "bootstrap",
    "interval",
    "kappa",
    "paired_bootstrap",
    "resample_counts",
    "share",
    "spearman",
    "standard_error",
]

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A number and its percentile bootstrap 95 % interval; NaN where there is nothing to compute it from."""

    value: float
    low: float
    high: float

    def record(self) -> dict[str, float | None]:
        """As JSON: NaN becomes null."""
        parts = {"value": self.value, "low": self.low, "high": self.high}
        return {name: float(part) if np.isfinite(part) else None for name, part in parts.items()}


def standard_error(values: ArrayLike) -> float:
    """Standard error of the mean, from the sample deviation (ddof 1); NaN entries are left out.

    NaN for fewer than two values.
    """
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    return float(np.std(known, ddof=1) / np.sqrt(len(known))) if len(known) > 1 else float("nan")


def resample_counts(n: int, resamples: int, seed: int) -> Counts:
    """How often each of n units stands in each resample; shape (R resamples, n), rows sum to n."""
    drawn = np.random.default_rng(seed).integers(0, n, size=(resamples, n))
    rows = np.arange(resamples)[:, None] * n
    return np.bincount((drawn + rows).ravel(), minlength=resamples * n).reshape(resamples, n)


def interval(value: float, draws: ArrayLike) -> Interval:
    """The percentile interval that the statistic's values on resamples give; undefined ones are left out."""
    known = np.asarray(draws, float)
    known = known[np.isfinite(known)]
    if not len(known):
        return Interval(value, float("nan"), float("nan"))
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(known, [tail, 100 - tail])
    return Interval(value, float(low), float(high))


def bootstrap(
    totals: ArrayLike, weights: ArrayLike | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """A mean over units that are resampled whole: sum(totals) / sum(weights).

    A unit is what varies on its own: a row, a question with all its turns, a prompt with all its games.

    Args:
        totals: Shape (n,): the sum over each unit's cases; NaN leaves the unit out.
        weights: Shape (n,): the number of each unit's cases; 1 each by default.
        resamples: How many.
        seed: Of the resampling.
    """
    above, below = _unit_sums(totals, weights)
    if not below.sum():
        return Interval(float("nan"), float("nan"), float("nan"))
    return interval(
        float(above.sum() / below.sum()), _ratios(resample_counts(len(above), resamples, seed), above, below)
    )


def paired_bootstrap(
    first: tuple[ArrayLike, ArrayLike | None],
    second: tuple[ArrayLike, ArrayLike | None],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The difference of two means over the same units, which both are resampled alike.

    Args:
        first: Totals and weights as for `bootstrap`, shape (n,) each.
        second: The same units of what is subtracted.
        resamples: How many.
        seed: Of the resampling.

    Raises:
        ValueError: The two have different numbers of units.
    """
    sums = [_unit_sums(*side) for side in (first, second)]
    if len(sums[0][0]) != len(sums[1][0]):
        raise ValueError(f"{len(sums[0][0])} units cannot be paired with {len(sums[1][0])}")
    if not all(below.sum() for _, below in sums):
        return Interval(float("nan"), float("nan"), float("nan"))
    counts = resample_counts(len(sums[0][0]), resamples, seed)
    values = [float(above.sum() / below.sum()) for above, below in sums]
    draws = [_ratios(counts, above, below) for above, below in sums]
    return interval(values[0] - values[1], draws[0] - draws[1])


def kappa(first: Sequence[str], second: Sequence[str]) -> float:
    """Cohen's kappa of two raters; NaN where both always give the same one label, so that chance explains all."""
    from sklearn.metrics import cohen_kappa_score

    if len({*first, *second}) < 2:
        return float("nan")
    return float(cohen_kappa_score(first, second))


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation; NaN for fewer than two values or where one side is constant."""
    from scipy.stats import spearmanr

    one, other = np.asarray(first, float), np.asarray(second, float)
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(spearmanr(one, other).statistic)


def _unit_sums(totals: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats]:
    above = np.asarray(totals, float)
    below = np.ones(len(above)) if weights is None else np.asarray(weights, float)
    known = ~np.isnan(above)
    return np.where(known, above, 0.0), np.where(known, below, 0.0)


def _ratios(counts: Counts, above: Floats, below: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios: Floats = (counts @ above) / (counts @ below)
    return ratios
