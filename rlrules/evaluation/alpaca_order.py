"""AlpacaEval's order of the two outputs, and its preference from two log-probabilities."""

import math
import random


def is_switched(instruction: str) -> bool:
    """Whether the reference shows the model's output first: a fixed function of the instruction."""
    return random.Random(f"is_switched_outputs{instruction}0").choices([False, True])[0]


def weighted_preference(first: float | None, second: float | None, switched: bool) -> float:
    """From 1, the baseline is better, to 2, the model is.

    Args:
        first: Log-probability that the output shown first is better; None where it was not among the likeliest.
        second: The same of the second.
        switched: The model's output was shown first.

    Returns:
        NaN where neither is known.
    """
    chances = [0.0 if value is None or math.isnan(value) else math.exp(value) for value in (first, second)]
    if not any(chances):
        return float("nan")
    value = 2 - chances[0] / sum(chances)
    return 3 - value if switched else value


def preference_of(p_first: float, switched: bool) -> float:
    """The same from the probability that the output shown first is better."""
    return 1 + p_first if switched else 2 - p_first
