"""What a run's metrics say of a group's comparisons (Think-RM, section 7, G10).

The names are the same in all groups. One that means nothing in a group is left out there: TRL averages over the groups
that have it, on all ranks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rlrules.judges.compare import Compared
from rlrules.rewards.pairs import Pair
from rlrules.rewards.pairwise import Ranking

# Upper ends of the bins that verdicts' strengths fall into, as shares of the strongest verdict there is.
BINS = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class AskedPair:
    """What was said of two completions in one order.

    Attributes:
        votes: Each verdict.
        strength: What they come to, negative where A is better; None without a valid one.
    """

    votes: tuple[Compared, ...]
    strength: float | None


def group_metrics(
    asked: Mapping[Pair, AskedPair], ranking: Ranking, strongest: float, graded: bool
) -> dict[str, float]:
    """Numbers about one group.

    Args:
        asked: What was said, by (shown as A, shown as B).
        ranking: What it comes to.
        strongest: The largest strength that one verdict can have.
        graded: Whether strengths are comparable with that.
    """
    votes = [vote for one in asked.values() for vote in one.votes]
    known = [one.strength for one in asked.values() if one.strength is not None]
    metrics = {"pairs_asked": float(len({tuple(sorted(pair)) for pair in asked}))}
    if votes:
        metrics |= _verdicts(votes)
    if known:
        sizes = np.abs(known) / strongest
        metrics["slot_a_wins"] = _mean([0.5 - np.sign(value) / 2 for value in known])
        if graded:
            counts = np.histogram(np.minimum(sizes, 1.0), [0.0, *(end + 1e-9 for end in BINS)])[0] / len(known)
            metrics |= {f"strength_to_{end:g}": share for end, share in zip(BINS, counts.tolist(), strict=True)}
    metrics |= _orders(asked)
    if ranking.pairs:
        metrics |= {"all_tied": float(ranking.squares == 0), "var_b": float(np.nanvar(ranking.values))}
    if ranking.squares:
        metrics["kappa"] = ranking.inconsistency
    return metrics


def _verdicts(votes: Sequence[Compared]) -> dict[str, float]:
    metrics = {
        "invalid": _mean([vote.own == "unparsed" for vote in votes]),
        "failed": _mean([vote.verdict.outcome == "failed" for vote in votes]),
        "truncated": _mean([vote.own == "truncated" for vote in votes]),
        "forced": _mean([vote.forced for vote in votes]),
        "answer_cut": _mean([vote.cut for vote in votes]),
    }
    thoughts = [vote.tokens for vote in votes if vote.tokens]
    return metrics | ({"thought_tokens": _mean(thoughts)} if thoughts else {})


def _orders(asked: Mapping[Pair, AskedPair]) -> dict[str, float]:
    """Where both orders were asked: how often another one wins, and what a slot is worth."""
    both = [
        (one.strength, other.strength)
        for (a, b), one in asked.items()
        if a < b and (other := asked.get((b, a))) and one.strength is not None and other.strength is not None
    ]
    if not both:
        return {}
    # The winner stands in the other slot when it is shown in the other order.
    disagreeing = _mean([one * other > 0 for one, other in both])
    return {"order_disagreement": disagreeing, "slot_bias": _mean([(one + other) / 2 for one, other in both])}


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
