"""How far thinking rewards are to be trusted in a group (SophiaVL-R1, section 3.3, equations 1 to 5): pure numpy.

All arrays have shape (G,): the completions of one prompt.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
CORRECT = 0.5
"""The outcome from which a completion counts as correct."""
_ALL_RIGHT, _ALL_WRONG, _SPREAD = 0.9, 0.1, 0.05
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Sides:
    """Mean thinking rewards of a group's correct and wrong completions; NaN where a side has none.

    Attributes:
        correct: mu_c.
        wrong: mu_w.
    """

    correct: float
    wrong: float

    @property
    def both(self) -> bool:
        """Whether the two can be compared."""
        return not math.isnan(self.correct - self.wrong)

    @property
    def gap(self) -> float:
        """mu_c - mu_w."""
        return self.correct - self.wrong

    @property
    def gamma(self) -> float:
        """1 where the judge ranks the two sides rightly, else exp(mu_c - mu_w), at least 1/e; NaN without a side."""
        return math.exp(min(0.0, self.gap)) if self.both else math.nan


def saturated(outcomes: Array) -> bool:
    """Whether a group's outcomes are too much alike for thinking to be weighed against them.

    All but equal rewards are divided by their own spread, which cancels every coefficient before them: the judge alone
    would train such a group, at full strength, at every step.

    Args:
        outcomes: NaN where there is none.
    """
    known = outcomes[~np.isnan(outcomes)]
    if len(known) < 2:
        return True
    low, high = float(known.min()), float(known.max())
    return low >= _ALL_RIGHT or high <= _ALL_WRONG or high - low < _SPREAD


def sides(outcomes: Array, thinking: Array) -> Sides:
    """Split a group at `CORRECT`.

    Args:
        outcomes: NaN where there is none.
        thinking: NaN where there is none, or where it is not to count.
    """
    known = ~np.isnan(outcomes) & ~np.isnan(thinking)
    right = outcomes >= CORRECT
    return Sides(_mean(thinking[known & right]), _mean(thinking[known & ~right]))


def imputed(thinking: Array, none: NDArray[np.bool_]) -> Array:
    """Missing thinking rewards filled with the mean of those there are; 0 where no bonus is due.

    Args:
        thinking: NaN where it is missing or does not count.
        none: Completions that get no bonus: malformed ones.
    """
    mean = _mean(thinking[~np.isnan(thinking)])
    filled: Array = np.where(np.isnan(thinking), 0.0 if math.isnan(mean) else mean, thinking)
    return np.where(none, 0.0, filled)


def coefficient(alpha: float, step: int, horizon: int | None) -> float:
    """The coefficient alpha * exp(-step / horizon); alpha itself where there is no horizon.

    Args:
        alpha: The coefficient at the start.
        step: 1 at the first rollout.
        horizon: Steps until 1/e of it is left; None: it stays.
    """
    return alpha if horizon is None else alpha * math.exp(-step / horizon)


def agreement(outcomes: Array, thinking: Array) -> tuple[float, float, float]:
    """Sums over a group for the correlation of both within groups: of squares, of squares, of products.

    Each value is measured from its group's mean, so that what differs between prompts counts for nothing.
    """
    known = ~np.isnan(outcomes) & ~np.isnan(thinking)
    if not known.any():
        return 0.0, 0.0, 0.0
    one, two = (column[known] - column[known].mean() for column in (outcomes, thinking))
    return float(one @ one), float(two @ two), float(one @ two)


def correlation(squares: float, others: float, products: float) -> float:
    """Pearson's, of sums as `agreement` gives them; NaN where either side does not vary."""
    if min(squares, others) <= ROUNDING:
        return math.nan
    return products / math.sqrt(squares * others)


def _mean(known: Array) -> float:
    return float(known.mean()) if len(known) else math.nan
