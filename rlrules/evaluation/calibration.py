"""A judge against stored verdicts: does it agree, what sways it, what does it cost?"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlrules.data.stage_log import Tell, content_sha
from rlrules.errors import DataError
from rlrules.evaluation.alpaca_data import annotations_of, models_of, read_eval_set, with_texts
from rlrules.evaluation.config import CalibrationConfig
from rlrules.evaluation.files import located
from rlrules.evaluation.judging import Pair, PairTemplate, judge_pairs, low_mass, probe
from rlrules.evaluation.results import (
    ResultRows,
    check_failures,
    judge_identity,
    open_manifest,
    usage_record,
    write_results,
)
from rlrules.evaluation.stats import bootstrap, kappa, spearman
from rlrules.judges import Judge


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored verdict: on 0 (the first output is better) to 1."""

    key: str
    model: str
    instruction: str
    output_1: str
    output_2: str
    y: float


async def run_calibration(
    config: CalibrationConfig, judge: Judge, model: Judge | None, folder: Path, tell: Tell
) -> dict[str, Any]:
    """Ask the judge what was judged before, in both orders.

    Raises:
        DataError: A file cannot be used, or the folder holds another result.
        JudgeError: The judge gives no label tokens, or too many rows have no verdict.
    """
    stored, left_out = read_stored(config)
    template = PairTemplate(Path(config.template) if config.template else None)
    identity = {
        "benchmark": "calibrate",
        "name": config.judge.model,
        "judge": judge_identity(config.judge),
        "template": template.version,
        "questions": content_sha([[one.key, one.instruction, one.output_1, one.output_2, one.y] for one in stored]),
    }
    rows = ResultRows(folder / "rows.jsonl", open_manifest(folder, identity))
    await probe(judge, template)
    pairs = [pair for one in stored for pair in _pairs(one)]
    started = time.monotonic()
    asked = len(rows.pending([pair.key for pair in pairs]))
    await judge_pairs(pairs, judge, template, rows, tell)
    seconds = time.monotonic() - started
    counts = check_failures(rows, [pair.key for pair in pairs], config.max_failed, "verdicts")
    metrics = agreement(stored, rows, config.resamples, config.seed) | {
        "counts": counts | {"n_low_mass": low_mass(rows)},
        "left_out": left_out,
        "usage": {"judge": usage_record(judge.usage)},
        "seconds": seconds,
        "verdicts_a_second": asked / seconds if seconds > 0 else float("nan"),
    }
    write_results(folder, {"benchmark": "calibrate", **metrics}, {"agreement": metrics.pop("units")})
    return metrics


def read_stored(config: CalibrationConfig) -> tuple[list[Stored], dict[str, int]]:
    """Stored verdicts that are no ties of equal outputs, `limit` of each model.

    Returns:
        Them, and how many rows of the files are none, by reason: `no_verdict` and `equal_outputs`.

    Raises:
        DataError: A file is malformed, or its rows hold no texts.
    """
    eval_set = read_eval_set(list(located(Path(config.eval_set)))) if config.eval_set else None
    found: list[Stored] = []
    left_out = {"no_verdict": 0, "equal_outputs": 0}
    for file in config.annotations:
        rows = with_texts(list(located(Path(file))), eval_set)
        for name in models_of(rows) or [Path(file).stem]:
            made = annotations_of(rows, file, name)
            own = [row for _, row in rows if str(row.get("model") or row.get("generator_2") or name) == name]
            if made.outputs is None or "instruction" not in own[0]:
                raise DataError(f"{file}: its rows hold no texts to judge; name the instructions with `eval_set`")
            kept: list[Stored] = []
            for number, (row, y) in enumerate(zip(own, made.y, strict=True)):
                texts = row["output_1"] or "", row["output_2"] or ""
                if np.isnan(y):
                    left_out["no_verdict"] += 1
                elif texts[0] == texts[1]:
                    left_out["equal_outputs"] += 1
                else:
                    kept.append(Stored(f"{name}/{number}", name, row["instruction"], *texts, float(y)))
            found += kept[: config.limit]
    if len({one.key for one in found}) < len(found):
        raise DataError("the same model's annotations are named twice")
    if not found:
        raise DataError(f"{', '.join(config.annotations)}: no stored verdicts")
    return found, left_out


def agreement(stored: Sequence[Stored], rows: ResultRows, resamples: int, seed: int) -> dict[str, Any]:
    """How the judge's verdicts, the mean of both orders, compare with the stored ones."""
    ours = np.array([_both(one, rows) for one in stored])
    theirs = np.array([one.y for one in stored])
    known = ~np.isnan(ours)
    agree = np.where(known & (ours != 0.5) & (theirs != 0.5), (ours > 0.5) == (theirs > 0.5), np.nan)
    longer = np.array([np.sign(len(one.output_2) - len(one.output_1)) for one in stored])
    uneven = known & (longer != 0)
    found = bootstrap(agree, resamples=resamples, seed=seed)
    by_model = _by_model(stored, ours, theirs)
    first, flips = _order(stored, rows)
    decided = ~np.isnan(agree)
    return {
        "agreement": found.value,
        "kappa": kappa([_winner(y) for y in ours[decided]], [_winner(y) for y in theirs[decided]]),
        "spearman_of_models": spearman(
            [m["ours"] for m in by_model.values()], [m["stored"] for m in by_model.values()]
        ),
        "p_first": first,
        "flip_rate": flips,
        "p_longer": _mean(np.where(longer > 0, ours, 1 - ours)[uneven]),
        "p_longer_stored": _mean(np.where(longer > 0, theirs, 1 - theirs)[uneven]),
        "n": int(decided.sum()),
        "models": by_model,
        "intervals": {"agreement": found.record()} if resamples else {},
        "units": {one.key: [float(a), 1.0] for one, a in zip(stored, agree, strict=True) if not np.isnan(a)},
    }


def _pairs(one: Stored) -> list[Pair]:
    prompt = ({"role": "user", "content": one.instruction},)
    return [
        Pair(f"{one.key}:0", prompt, one.output_1, one.output_2, {"switched": False, "stored": one.y}),  # type: ignore[arg-type]
        Pair(f"{one.key}:1", prompt, one.output_2, one.output_1, {"switched": True, "stored": one.y}),  # type: ignore[arg-type]
    ]


def _both(one: Stored, rows: ResultRows) -> float:
    lines = [rows.get(f"{one.key}:{order}") for order in (0, 1)]
    if lines[0] is None or lines[1] is None:
        return float("nan")
    return float((1 - lines[0].data["p_first"] + lines[1].data["p_first"]) / 2)


def _order(stored: Sequence[Stored], rows: ResultRows) -> tuple[float, float]:
    chances = [[rows.get(f"{one.key}:{order}") for order in (0, 1)] for one in stored]
    both = [(a.data["p_first"], b.data["p_first"]) for a, b in chances if a is not None and b is not None]
    flips = [(first > 0.5) == (second > 0.5) for first, second in both]
    return _mean(np.array(both)), _mean(np.array(flips))


def _by_model(
    stored: Sequence[Stored], ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]
) -> dict[str, dict[str, float]]:
    places: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(stored):
        if not np.isnan(ours[place]):
            places[one.model].append(place)
    return {
        name: {"ours": 100 * float(ours[own].mean()), "stored": 100 * float(theirs[own].mean()), "n": len(own)}
        for name, own in places.items()
    }


def _winner(y: float) -> str:
    return "model" if y > 0.5 else "baseline"


def _mean(values: np.ndarray[Any, Any]) -> float:
    return float(np.mean(values)) if values.size else float("nan")
