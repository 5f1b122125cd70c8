"""The advantages that TRL will make of rewards, for logs and for scoring without training."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Scale = Literal["group", "batch", "none"]
EPSILON = 1e-4
DEFAULT_SCALE: Scale = "group"
"""TRL's."""


def named_scale(value: object) -> Scale:
    """What TRL takes a `scale_rewards` for.

    Raises:
        ValueError: TRL refuses it.
    """
    if isinstance(value, bool):
        return "group" if value else "none"
    for name in get_args(Scale):
        if value == name:
            scale: Scale = name
            return scale
    raise ValueError(f"is {value!r}; TRL knows {', '.join(get_args(Scale))}")


def advantages(groups: Sequence[Sequence[float | None]], scale: Scale = "group") -> list[NDArray[np.float64]]:
    """Group-relative advantages as in TRL 1.16 (`sum_then_normalize`).

    A completion without a reward is left out of its group's mean and deviation, and its advantage is 0; so is that
    of a completion that is the only scored one of its group.

    Args:
        groups: B groups of G rewards each; None where there is none.
        scale: What the centred rewards are divided by: the deviation (Bessel's) of the group, of all, or nothing.

    Returns:
        B arrays of shape (G,).
    """
    arrays = [np.array([np.nan if reward is None else reward for reward in group]) for group in groups]
    everything = np.concatenate(arrays) if arrays else np.zeros(0)
    made: list[NDArray[np.float64]] = []
    for rewards in arrays:
        centred = rewards - _mean(rewards)
        if scale != "none":
            deviation = _deviation(rewards if scale == "group" else everything)
            centred = centred / (deviation + EPSILON)
        made.append(np.nan_to_num(centred, nan=0.0))
    return made


def _mean(rewards: NDArray[np.float64]) -> float:
    known = rewards[~np.isnan(rewards)]
    return float(known.mean()) if len(known) else float("nan")


def _deviation(rewards: NDArray[np.float64]) -> float:
    known = rewards[~np.isnan(rewards)]
    return float(known.std(ddof=1)) if len(known) > 1 else float("nan")
