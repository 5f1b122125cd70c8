"""AlpacaEval's numbers from annotations, as the reference computes them, and what it lacks: intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrules.evaluation.alpaca_data import Annotations, EvalSet
from rlrules.evaluation.alpaca_glm import (
    DEFAULT_C,
    Design,
    Fit,
    Inputs,
    design,
    fit,
    fit_cross_validated,
    predict,
)
from rlrules.evaluation.alpaca_resample import resampled_win_rates
from rlrules.evaluation.stats import RESAMPLES, Interval, interval, resample_counts, standard_error

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Settings:
    """How the length-controlled win rate is computed.

    Attributes:
        C: Inverse strength of the L1 penalty.
        cross_validate: Choose C as the reference does instead.
        legacy_positions: Take difficulties by place in the file, as the reference does.
        resamples: Of the bootstrap; 0 leaves intervals out.
        seed: Of the bootstrap.
    """

    C: float = DEFAULT_C
    cross_validate: bool = False
    legacy_positions: bool = False
    resamples: int = RESAMPLES
    seed: int = 0


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """The fit, its rows and each row's chance at equal lengths, shape (n,)."""

    rows: Design
    fit: Fit
    chance: Floats


def win_rates(annotations: Annotations) -> dict[str, float | int]:
    """Raw and discrete win rate in percent, the raw one's standard error, and counts; missing rows left out."""
    y = annotations.y[~np.isnan(annotations.y)]
    # Only an exact tie is one half; all else goes to its nearer end.
    discrete = np.where(y == 0.5, 0.5, np.round(y))
    return {
        "win_rate": 100 * float(y.mean()) if len(y) else float("nan"),
        "standard_error": 100 * standard_error(y),
        "n_wins": int((y > 0.5).sum()),
        "n_wins_base": int((y < 0.5).sum()),
        "n_draws": int((y == 0.5).sum()),
        "n_total": len(y),
        "discrete_win_rate": 100 * float(discrete.mean()) if len(y) else float("nan"),
        "avg_length": int(annotations.length_2.mean()),
    }


def length_controlled(annotations: Annotations, inputs: Inputs, settings: Settings) -> LengthControlled:
    """Fit the GLM; the baseline against itself has zero coefficients and 50 % by construction."""
    rows = design(annotations, inputs, settings.legacy_positions)
    if annotations.is_baseline:
        found = Fit(np.zeros(3), settings.C)
    else:
        found = fit_cross_validated(rows) if settings.cross_validate else fit(rows, settings.C)
    return LengthControlled(rows, found, predict(found.coefficients, rows.difficulty))


def alpaca_metrics(
    annotations: Annotations, inputs: Inputs, settings: Settings, eval_set: EvalSet | None = None
) -> dict[str, Any]:
    """Every number of one model, JSON-able; undefined ones are NaN."""
    raw = win_rates(annotations)
    controlled = length_controlled(annotations, inputs, settings)
    rate = 100 * float(controlled.chance.mean())
    metrics: dict[str, Any] = {
        "model": annotations.model,
        **raw,
        "length_controlled_winrate": rate,
        "lc_standard_error": 100 * standard_error(controlled.chance),
        "variant": inputs.variant,
        "C": controlled.fit.C,
        "coefficients": dict(zip(("length", "difficulty", "bias"), controlled.fit.coefficients.tolist(), strict=True)),
        "n_missing": int(np.isnan(annotations.y).sum()),
        "empty_outputs": annotations.place[annotations.length_2 == 0].tolist(),
        "length_ratio": _ratio(annotations),
        "warnings": _warnings(annotations, float(raw["win_rate"]), rate)
        + _places_warning(annotations, inputs, settings),
    }
    if settings.resamples:
        metrics["intervals"] = {
            name: found.record() for name, found in intervals(annotations, controlled, settings).items()
        }
    if annotations.switched is not None:
        metrics["position"] = _position(annotations)
    if eval_set is not None and annotations.prompt is not None:
        metrics["by_subset"] = _by_subset(annotations, eval_set)
    return metrics


def intervals(annotations: Annotations, controlled: LengthControlled, settings: Settings) -> dict[str, Interval]:
    """Row-bootstrap intervals of the raw and the length-controlled win rate, refitted for every resample."""
    raw, lengthwise = resampled(annotations, controlled, settings)
    return {
        "win_rate": interval(100 * float(np.nanmean(annotations.y)), raw),
        "length_controlled_winrate": interval(100 * float(controlled.chance.mean()), lengthwise),
    }


def resampled(annotations: Annotations, controlled: LengthControlled, settings: Settings) -> tuple[Floats, Floats]:
    """Raw and length-controlled win rates, shape (R,) each, of the resamples that `settings.seed` draws.

    Two models with the same instructions share them, so that differences are paired.
    """
    counts = resample_counts(len(annotations), settings.resamples, settings.seed)
    known = ~np.isnan(annotations.y)
    with np.errstate(invalid="ignore"):
        raw = 100 * (counts @ np.nan_to_num(annotations.y)) / (counts @ known)
    if annotations.is_baseline:
        return raw, np.full(len(counts), 50.0)
    return raw, resampled_win_rates(controlled.rows, controlled.fit, counts)


def paired_difference(
    first: Annotations, second: Annotations, inputs: Inputs, settings: Settings
) -> dict[str, Interval]:
    """First minus second, in points, by a bootstrap that resamples the instructions of both alike.

    Raises:
        ValueError: They are not of the same instructions in the same order.
    """
    keys = [one.place if one.prompt is None else one.prompt for one in (first, second)]
    if len(keys[0]) != len(keys[1]) or (keys[0] != keys[1]).any():
        raise ValueError(f"{first.model} and {second.model} are not annotated on the same instructions")
    fits = [length_controlled(one, inputs, settings) for one in (first, second)]
    draws = [resampled(one, found, settings) for one, found in zip((first, second), fits, strict=True)]
    raw = 100 * float(np.nanmean(first.y) - np.nanmean(second.y))
    controlled = 100 * float(fits[0].chance.mean() - fits[1].chance.mean())
    return {
        "win_rate": interval(raw, draws[0][0] - draws[1][0]),
        "length_controlled_winrate": interval(controlled, draws[0][1] - draws[1][1]),
    }


def closed_form(
    coefficients: Sequence[float], difficulty: Floats, baseline: Sequence[float] = (0.0, 0.0, 0.0)
) -> float:
    """Length-controlled win rate of one model against another, in percent, from their published coefficients."""
    return 100 * float(predict(np.subtract(coefficients, baseline), difficulty).mean())


def _ratio(annotations: Annotations) -> float:
    return (
        float(annotations.length_2.mean() / annotations.length_1.mean()) if annotations.length_1.any() else float("nan")
    )


def _warnings(annotations: Annotations, raw: float, controlled: float) -> list[str]:
    found: list[str] = []
    low, high = min(0.75 * raw, raw - 10), max(raw + (100 - raw) / 4, raw + 10)
    if not low <= controlled <= high:
        found.append(
            f"length control moves the win rate far, from {raw:.1f} to {controlled:.1f}: the fit may have failed"
        )
    empty = int((annotations.length_2 == 0).sum())
    if empty:
        found.append(f"{empty} outputs are empty")
    return found


def _places_warning(annotations: Annotations, inputs: Inputs, settings: Settings) -> list[str]:
    if inputs.difficulty is None or annotations.prompt is not None or settings.legacy_positions:
        return []
    return ["difficulties are given by the row's place in the file; --eval-set gives them by instruction"]


def _position(annotations: Annotations) -> dict[str, float]:
    assert annotations.switched is not None
    means = {
        name: 100 * float(np.nanmean(annotations.y[shown])) if shown.any() else float("nan")
        for name, shown in (("model_first", annotations.switched), ("model_second", ~annotations.switched))
    }
    return {**means, "difference": means["model_first"] - means["model_second"]}


def _by_subset(annotations: Annotations, eval_set: EvalSet) -> dict[str, dict[str, float | int]]:
    assert annotations.prompt is not None
    subsets = np.array(eval_set.subsets)[annotations.prompt]
    return {
        str(name): {
            "win_rate": 100 * float(np.nanmean(annotations.y[subsets == name])),
            "n": int((~np.isnan(annotations.y[subsets == name])).sum()),
        }
        for name in sorted(set(subsets.tolist()))
    }
