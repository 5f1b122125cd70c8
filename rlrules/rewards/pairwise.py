"""From the comparisons of a group to a ranking and to advantages (Think-RM, section 4.2), missing edges included."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Normalize = Literal["group", "batch", "none"]
Epsilon = Literal["relative", "paper"]

PAPER_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Ranking:
    """The scores that explain a group's comparisons best.

    Attributes:
        values: Shape (G,): in the least-squares sense, values[i] - values[j] is by how much i beats j; they sum to 0.
            NaN outside the largest connected part of the group, and everywhere without a comparison.
        pairs: Comparisons within that part.
        squares: Sum of their squared strengths.
        residual: The part of `squares` that no scores explain.
    """

    values: NDArray[np.float64]
    pairs: int
    squares: float
    residual: float

    @property
    def inconsistency(self) -> float:
        """Kappa, the share of the squares in cycles and strengths that do not add up; NaN where all strengths are 0."""
        return self.residual / self.squares if self.squares else float("nan")


def rank(strengths: NDArray[np.float64]) -> Ranking:
    """Rank a group by its comparisons.

    Row means where all pairs are compared; least squares over the compared ones otherwise. Of several parts that no
    comparison connects only the largest is ranked, of equally large ones that of the lowest index.

    Args:
        strengths: Shape (G, G): by how much completion i beats completion j; NaN is a missing edge. An edge counts
            where both directions are there; the diagonal does not.
    """
    compared = np.isfinite(strengths) & np.isfinite(strengths.T)
    np.fill_diagonal(compared, False)
    part = _largest_part(compared)
    values = np.full(len(strengths), np.nan)
    if len(part) < 2:
        return Ranking(values, 0, 0.0, 0.0)
    edges = compared[np.ix_(part, part)]
    differences = np.where(edges, strengths[np.ix_(part, part)], 0.0)
    size, sums = len(part), differences.sum(axis=1)
    degrees = edges.sum(axis=1)
    if (degrees == size - 1).all():
        found = sums / size
    else:
        laplacian = np.diag(degrees) - edges.astype(np.float64)
        found = np.linalg.solve(laplacian + 1 / size, sums)
    values[part] = found
    unexplained = np.where(edges, differences - (found[:, None] - found[None, :]), 0.0)
    return Ranking(values, int(edges.sum()) // 2, float((differences**2).sum()) / 2, float((unexplained**2).sum()) / 2)


def denominator(squares: float, pairs: int, eps: Epsilon) -> float:
    """What a ranking is divided by: the root of half the mean square of its pairs' strengths.

    For strengths that are differences of rewards, all pairs compared, this is the rewards' deviation (Bessel's).

    Args:
        squares: Sum of the squared strengths, of a group or of all groups of a batch.
        pairs: How many they are.
        eps: "paper": 1e-6 inside the root, which swallows strengths as small as inverse lengths. "relative": the
            epsilon would be a share of the strengths themselves, so that it changes nothing and is left out.
    """
    mean = squares / pairs if pairs else 0.0
    return float(np.sqrt(mean / 2 + (PAPER_EPSILON if eps == "paper" else 0.0)))


def scaled(values: NDArray[np.float64], by: float) -> NDArray[np.float64]:
    """`values` over the denominator `by`; zeros, and NaN where they are, where that is 0: all strengths were."""
    return values / by if by else values * 0.0


def _largest_part(compared: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Indices, in order, of the largest connected part of the graph with this adjacency matrix."""
    size = len(compared)
    if not size:
        return np.zeros(0, dtype=np.intp)
    reached = compared | np.eye(size, dtype=bool)
    for _ in range(size.bit_length()):
        reached = reached @ reached
    # The first of the largest sizes stands in the row of the lowest index.
    return np.flatnonzero(reached[reached.sum(axis=1).argmax()])
