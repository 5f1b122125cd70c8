"""How often a judge or a reward model prefers what people preferred: any file of preferences."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrules.evaluation.stats import RESAMPLES, bootstrap, share

Floats = NDArray[np.float64]


def preference_metrics(
    outcomes: Floats, groups: Sequence[str], resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Accuracy over n preferences, ties as wrong and as half, and the two averages over groups.

    Args:
        outcomes: Shape (n,): 1 the chosen answer wins, 0 it loses, 0.5 a tie, NaN no verdict.
        groups: Each preference's source or subset.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
    """
    known = ~np.isnan(outcomes)
    right = np.where(known, outcomes == 1, np.nan)
    names = np.array(groups)
    parts = {name: right[(names == name) & known] for name in dict.fromkeys(groups)}
    means = {name: float(part.mean()) for name, part in parts.items() if len(part)}
    strict, lenient = (
        bootstrap(right, resamples=resamples, seed=seed),
        bootstrap(outcomes, resamples=resamples, seed=seed),
    )
    wilson = share(float(np.nansum(right)), int(known.sum()))
    return {
        "accuracy": strict.value,
        "accuracy_ties_half": lenient.value,
        "macro": float(np.mean(list(means.values()))) if means else float("nan"),
        "groups": {name: {"accuracy": means[name], "n": len(parts[name])} for name in means},
        "ties": float(np.mean(outcomes[known] == 0.5)) if known.any() else float("nan"),
        "n": int(known.sum()),
        "n_failed": int((~known).sum()),
        "wilson": {"low": wilson.low, "high": wilson.high},
        "intervals": ({"accuracy": strict.record(), "accuracy_ties_half": lenient.record()} if resamples else {}),
    }
