"""Curves as arrays: smoothing, thinning, first against last."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SMOOTH_FROM = 12
# Beyond it sums overflow; a metric that gets there is broken, and looks it.
_LARGEST = 1e100


@dataclass(frozen=True, slots=True)
class Series:
    """One metric over a run.

    Attributes:
        steps: Shape (N,), ascending.
        values: Shape (N,), finite.
    """

    steps: Floats
    values: Floats

    @classmethod
    def of(cls, points: Sequence[tuple[float, float]]) -> "Series":
        """From (step, value) pairs in any order."""
        table = np.array(sorted(points, key=lambda point: point[0]), dtype=np.float64).reshape(-1, 2)
        table = table.clip(-_LARGEST, _LARGEST)
        return cls(table[:, 0], table[:, 1])

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def mean(self) -> float:
        """Over all points, each counting the same."""
        return float(self.values.mean())

    @property
    def total(self) -> float:
        """Sum of all points."""
        return float(self.values.sum())

    def fifths(self) -> tuple[float, float]:
        """Means of the first and of the last fifth of the points, one point at least."""
        size = max(1, round(len(self) / 5))
        return float(self.values[:size].mean()), float(self.values[-size:].mean())

    def thinned(self, most: int) -> "Series":
        """At most `most` points, each the mean of its neighbours."""
        if len(self) <= most:
            return self
        starts = np.linspace(0, len(self), most, endpoint=False).astype(np.intp)
        counts = np.diff(np.append(starts, len(self)))
        return Series(np.add.reduceat(self.steps, starts) / counts, np.add.reduceat(self.values, starts) / counts)

    def smoothed(self) -> "Series":
        """A centred moving mean over about an eighth of the run; at both ends over what there is of the window."""
        count = len(self)
        half = max(1, count // 16)
        sums = np.concatenate([[0.0], np.cumsum(self.values)])
        start = np.maximum(np.arange(count) - half, 0)
        end = np.minimum(np.arange(count) + half + 1, count)
        return Series(self.steps, (sums[end] - sums[start]) / (end - start))

    @property
    def is_noisy(self) -> bool:
        """Whether a smoothed line helps: it would only bend the ends of a curve without noise, such as a schedule."""
        if len(self) < SMOOTH_FROM:
            return False
        return float(np.abs(self.smoothed().values - self.values).max()) > 0.05 * float(np.ptp(self.values))

    def strip(self, first: float, last: float, most: int) -> Floats:
        """Means over equal spans of steps from `first` to `last`.

        Returns:
            Shape (K,) with K <= `most`; NaN where a span has no point.
        """
        count = int(min(most, max(1, last - first + 1)))
        width = (last - first + 1) / count
        places = np.clip((self.steps - first) // width, 0, count - 1).astype(np.intp)
        sums, counts = np.zeros(count), np.zeros(count)
        np.add.at(sums, places, self.values)
        np.add.at(counts, places, 1)
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def weighted_mean(values: Series | None, weights: Series | None) -> float | None:
    """Mean of `values` weighted by `weights` at the same steps; None where nothing has weight."""
    if values is None or weights is None:
        return None
    _, left, right = np.intersect1d(values.steps, weights.steps, return_indices=True)
    weight = np.maximum(weights.values[right], 0.0)
    total = float(weight.sum())
    return float((values.values[left] * weight).sum()) / total if total > 0 else None
