"""Two models' AlpacaEval verdicts beside each other: of annotation files, and of finished results."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlrules.data.rows import Row
from rlrules.errors import DataError
from rlrules.evaluation.alpaca_data import EvalSet, annotations_of, models_of, of_model, with_texts
from rlrules.evaluation.alpaca_glm import Inputs, read_inputs
from rlrules.evaluation.alpaca_metrics import Settings, paired_difference
from rlrules.evaluation.files import listed, located

LENGTH_CONTROL = "length_control_inputs"
"""Where a run's metrics say what its length control was fitted with, beside `C`."""

_FILES = ("difficulty", "gamed")
_KEYS = ("instruction", "prompt_index", "row")


def paired_with(
    rows: Sequence[tuple[str, dict[str, Any]]],
    source: str,
    baseline: Path,
    inputs: Inputs,
    settings: Settings,
    model: str | None = None,
    eval_set: EvalSet | None = None,
) -> dict[str, Any]:
    """The difference between the model of one file and that of another, paired by instruction.

    Args:
        rows: Of the model, with their places.
        source: Their file, for messages.
        baseline: File of what is subtracted, of one model.
        inputs: Of the length control, of both.
        settings: How to compute.
        model: Which model of `rows`.
        eval_set: The instructions, where rows hold their indices.

    Returns:
        `model`, `baseline`, `n`, and of win rate and length-controlled win rate {value, low, high} in points.

    Raises:
        DataError: A file is malformed, or the two are not of the same instructions or judge.
    """
    partial = settings.legacy_positions
    name, own = of_model(with_texts(rows, eval_set), source, model)
    others = with_texts(list(located(baseline)), eval_set)
    if len(models_of(others)) > 1:
        raise DataError(f"--baseline: {baseline}: holds several models; keep the rows of one")
    ordered = _ordered_as(own, source, others, str(baseline))
    first = annotations_of(own, source, name, eval_set, partial)
    second = annotations_of(ordered, str(baseline), None, eval_set, partial)
    # What one file knows of its rows holds for the other's, too, which are in the same order.
    known = second.prompt if first.prompt is None else first.prompt
    pair = [replace(one, prompt=known) if one.prompt is None else one for one in (first, second)]
    try:
        found = paired_difference(pair[0], pair[1], inputs, settings)
    except ValueError as error:
        raise DataError(f"{source}, {baseline}: {error}") from error
    return {
        "model": first.model,
        "baseline": second.model,
        "n": len(first),
        **{name: difference.record() for name, difference in found.items()},
    }


def inputs_record(difficulty: str | None, gamed: str | None) -> dict[str, dict[str, str] | None]:
    """The length control's files as a result's metrics hold them: path and hash; None where there is none.

    Raises:
        DataError: A file cannot be read.
    """
    paths = {"difficulty": difficulty, "gamed": gamed}
    return {
        name: {"path": str(Path(path).resolve()), "sha": _sha(Path(path))} if path else None
        for name, path in paths.items()
    }


def shared_fit(
    folders: Sequence[Path], metrics: Sequence[Mapping[str, Any]], given: Mapping[str, Path | None]
) -> tuple[Inputs, float] | str:
    """What the length control of finished results was fitted with, to fit it again.

    Args:
        folders: The results.
        metrics: Theirs.
        given: Files of flags by name, instead of the recorded paths.

    Returns:
        Inputs and C, or, in words, why there are none.

    Raises:
        DataError: Results were fitted with different inputs, or a given file is another than theirs.
    """
    records = [one.get(LENGTH_CONTROL) for one in metrics]
    for folder, record in zip(folders, records, strict=True):
        if not isinstance(record, dict):
            return f"{folder} does not say what its length control was fitted with; run it again"
    told = [
        {"C": one["C"], **{name: _said((record or {}).get(name)) for name in _FILES}}
        for one, record in zip(metrics, records, strict=True)
    ]
    for folder, other in zip(folders[1:], told[1:], strict=True):
        for name, value in other.items():
            if value != told[0][name]:
                raise DataError(
                    f"{folder}: {name}: {value}, but {folders[0]} has {told[0][name]}: length-controlled rates of "
                    "different fits cannot be compared; run one of them again with the other's"
                )
    paths: dict[str, Path | None] = {}
    for name in _FILES:
        found = _file(folders[0], name, (records[0] or {}).get(name), given.get(name))
        if isinstance(found, str):
            return found
        paths[name] = found
    return read_inputs(paths["difficulty"], paths["gamed"]), float(metrics[0]["C"])


def _file(folder: Path, name: str, record: Mapping[str, str] | None, given: Path | None) -> Path | str | None:
    if record is None:
        if given is not None:
            raise DataError(f"--{name}: {folder} was fitted without it; leave it out")
        return None
    if given is not None:
        if _sha(given) != record["sha"]:
            raise DataError(f"--{name}: {given} is another file than {folder} was fitted with ({record['path']})")
        return given
    path = Path(record["path"])
    if not path.exists():
        return f"{path} is not there any more; name it with --{name}"
    return path if _sha(path) == record["sha"] else f"{path} has changed since; name the former with --{name}"


def _said(record: Mapping[str, str] | None) -> str:
    return "none" if record is None else record["sha"]


def _sha(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _ordered_as(
    own: Sequence[tuple[str, Row]], source: str, others: Sequence[tuple[str, Row]], baseline: str
) -> list[tuple[str, dict[str, Any]]]:
    """The baseline's rows in the order of the model's, by instruction.

    Raises:
        DataError: One of them lacks an instruction, or they are of different judges.
    """
    key = next((name for name in _KEYS if all(rows and name in rows[0][1] for rows in (own, others))), None)
    if key is None:
        raise DataError(f"{source}, {baseline}: share none of {', '.join(_KEYS)}; --eval-set gives texts to indices")
    tables = [{row.get(key): (where, dict(row)) for where, row in rows} for rows in (own, others)]
    for file, there, other in ((baseline, tables[1], tables[0]), (source, tables[0], tables[1])):
        lacking = [value for value in other if value not in there]
        if lacking:
            raise DataError(f"{file}: `{key}`: lacks {len(lacking)} rows of the other file: {listed(lacking, 3)}")
    judges = [{str(row["annotator"]) for _, row in rows if row.get("annotator")} for rows in (own, others)]
    if all(judges) and judges[0] != judges[1]:
        raise DataError(
            f"{baseline}: `annotator`: {listed(judges[1])}, but {source} has {listed(judges[0])}: verdicts of "
            "different judges cannot be compared"
        )
    # Rows that stand twice are for the reader to refuse.
    twice = [entry for entry in others if tables[1][entry[1].get(key)][0] != entry[0]]
    return [tables[1][value] for value in tables[0]] + [(where, dict(row)) for where, row in twice]
