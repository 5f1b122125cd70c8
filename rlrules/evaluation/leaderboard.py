"""Recomputed AlpacaEval numbers beside published ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlrules.errors import DataError
from rlrules.evaluation.alpaca_data import annotations_of, models_of
from rlrules.evaluation.alpaca_glm import Inputs
from rlrules.evaluation.alpaca_metrics import Settings, alpaca_metrics
from rlrules.evaluation.files import located, need

COMPARED = (
    "win_rate",
    "standard_error",
    "discrete_win_rate",
    "length_controlled_winrate",
    "lc_standard_error",
    "n_wins",
    "n_wins_base",
    "n_draws",
    "n_total",
)


def deviations(annotations: Path, expected: Path, inputs: Inputs, settings: Settings) -> list[dict[str, Any]]:
    """Ours minus the published number, for every model that both files hold.

    Args:
        annotations: Annotations of several models.
        expected: Published numbers, a row per model; its column `inferred_C`, where there is one, replaces
            `settings.C`, unless C is cross-validated.
        inputs: The GLM's.
        settings: How to compute.

    Returns:
        A row per model: `model`, `C`, `length_controlled_winrate` (ours), `deviation` by name of number; a number
        that is not published is left out.

    Raises:
        DataError: A file is malformed, or they share no model.
    """
    rows = list(located(annotations))
    there = set(models_of(rows))
    found: list[dict[str, Any]] = []
    for where, published in located(expected):
        need(published, ("model",), where)
        if published["model"] not in there:
            continue
        model = annotations_of(rows, str(annotations), published["model"])
        C = published.get("inferred_C")
        chosen = settings if C is None or math.isnan(C) else replace(settings, C=float(C))
        ours = alpaca_metrics(model, inputs, replace(chosen, resamples=0))
        found.append(
            {
                "model": model.model,
                "C": ours["C"],
                "published_C": C,
                "length_controlled_winrate": ours["length_controlled_winrate"],
                "deviation": {
                    name: ours[name] - published[name] for name in COMPARED if published.get(name) is not None
                },
            }
        )
    if not found:
        raise DataError(f"{expected}: shares no model with {annotations}")
    return found


def largest(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The largest absolute deviation of each number over all models."""
    return {
        name: max(abs(row["deviation"][name]) for row in rows if name in row["deviation"])
        for name in COMPARED
        if any(name in row["deviation"] for row in rows)
    }
