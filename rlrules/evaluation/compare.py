"""Results side by side, with paired intervals of their differences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlrules.errors import DataError
from rlrules.evaluation.alpaca_data import read_annotations
from rlrules.evaluation.alpaca_glm import Inputs
from rlrules.evaluation.alpaca_metrics import Settings, paired_difference
from rlrules.evaluation.alpaca_paired import shared_fit
from rlrules.evaluation.alpaca_run import ANNOTATIONS
from rlrules.evaluation.files import listed
from rlrules.evaluation.results import MANIFEST, METRICS, UNITS, read_json
from rlrules.evaluation.stats import RESAMPLES, paired_bootstrap

# What results must share to be compared at all; another judge is another benchmark.
_SHARED = ("benchmark", "questions", "orders", "mode", "explain", "references", "baseline", "rules")
_JUDGING = ("judge", "template")
_OF_JUDGES = ("reward-bench", "rm-bench", "preference", "calibrate")


def compare(
    folders: Sequence[Path],
    mixed_judges: bool = False,
    inputs: Mapping[str, Path | None] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare results with the first of them.

    Args:
        folders: Finished results of one benchmark on the same questions.
        mixed_judges: Results of different judges may stand in one table, which then names them.
        inputs: Files of AlpacaEval's length control, `difficulty` and `gamed`, where they are not any more where the
            results were made with them.
        resamples: Of the paired bootstrap over units.
        seed: Of the bootstrap.

    Returns:
        `metric`; `n_units`, which all results have, and `units_left_out`, which some lack; and a row per result:
        `folder`, `name`, `judge`, `value`, and the `difference` to the first with its interval; of AlpacaEval also
        `length_controlled_difference`, both being fitted anew for every resample, with what the results were fitted
        with, or one of `warnings` that says why it is left out.

    Raises:
        DataError: Fewer than two results, another benchmark, other questions, another length control, or, unless
            they may be mixed, other judges.
    """
    identities = _identities(folders, mixed_judges)
    units = [read_json(folder / UNITS) for folder in folders]
    [metric] = units[0]
    keys = _keys(folders, [table[metric] for table in units])
    columns = [_columns(table[metric], keys) for table in units]
    metrics = [read_json(folder / METRICS) for folder in folders]
    fitted: tuple[Inputs, float] | str = ""
    if identities[0]["benchmark"] == "alpaca":
        fitted = shared_fit(folders, metrics, inputs or {})
    rows: list[dict[str, Any]] = []
    for folder, identity, numbers, own in zip(folders, identities, metrics, columns, strict=True):
        row: dict[str, Any] = {
            "folder": str(folder),
            "name": identity.get("name", ""),
            "judge": _judge(identity),
            "value": numbers.get(metric),
        }
        if own is not columns[0]:
            row["difference"] = _scale(metric, paired_bootstrap(own, columns[0], resamples, seed).record())
            if not isinstance(fitted, str):
                settings = Settings(C=fitted[1], resamples=resamples, seed=seed)
                row["length_controlled_difference"] = _length_controlled(folder, folders[0], fitted[0], settings)
        rows.append(row)
    return {
        "benchmark": identities[0]["benchmark"],
        "metric": metric,
        "n_units": len(keys),
        "units_left_out": len({key for table in units for key in table[metric]}) - len(keys),
        "results": rows,
        "warnings": [f"no length-controlled difference: {fitted}"] if isinstance(fitted, str) and fitted else [],
    }


def _identities(folders: Sequence[Path], mixed_judges: bool) -> list[dict[str, Any]]:
    if len(folders) < 2:
        raise DataError("name two results or more")
    identities = [read_json(folder / MANIFEST)["identity"] for folder in folders]
    for folder, identity in zip(folders[1:], identities[1:], strict=True):
        _refuse(_SHARED, folders[0], identities[0], folder, identity, "they cannot be compared")
        # Where a judge is what is measured, it differs on purpose.
        if identity["benchmark"] not in _OF_JUDGES and not mixed_judges:
            _refuse(_JUDGING, folders[0], identities[0], folder, identity, "--mixed-judges puts them in one table")
    return identities


def _length_controlled(folder: Path, base: Path, inputs: Inputs, settings: Settings) -> dict[str, float | None]:
    made = [read_annotations(one / ANNOTATIONS) for one in (folder, base)]
    try:
        return paired_difference(made[0], made[1], inputs, settings)["length_controlled_winrate"].record()
    except ValueError as error:
        raise DataError(f"{folder}, {base}: {error}") from error


def _refuse(
    names: Sequence[str], first: Path, one: Mapping[str, Any], second: Path, other: Mapping[str, Any], then: str
) -> None:
    for name in names:
        if one.get(name) != other.get(name):
            told = [
                value["model"] if isinstance(value, dict) and "model" in value else value
                for value in (one.get(name), other.get(name))
            ]
            raise DataError(f"{second}: {name}: {told[1]}, but {first} has {told[0]}: {then}")


def _keys(folders: Sequence[Path], tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """Units that every result has; what one lacks is left out of all.

    Raises:
        DataError: They share none.
    """
    shared = [key for key in tables[0] if all(key in table for table in tables)]
    if not shared:
        raise DataError(f"{listed(folders)}: no question has a result in all of them")
    return shared


def _columns(table: Mapping[str, Sequence[float]], keys: Sequence[str]) -> tuple[list[float], list[float]]:
    return [table[key][0] for key in keys], [table[key][1] for key in keys]


def _judge(identity: Mapping[str, Any]) -> str:
    judge = identity.get("judge")
    return str(judge["model"]) if isinstance(judge, dict) else ""


def _scale(metric: str, record: dict[str, float | None]) -> dict[str, float | None]:
    """AlpacaEval's rates are in percent, its units on 0 to 1."""
    if metric != "win_rate":
        return record
    return {name: None if value is None else 100 * value for name, value in record.items()}
