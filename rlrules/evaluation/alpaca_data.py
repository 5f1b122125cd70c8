"""AlpacaEval's files: instructions with the baseline's outputs, and annotations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrules.data.rows import Row
from rlrules.errors import DataError
from rlrules.evaluation.files import listed, located, need

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FULL_COLUMNS = ("instruction", "output_1", "output_2", "preference")
COMPACT_COLUMNS = ("row", "preference", "len_1", "len_2")
_TIE, _FAILED = 0.0, -1.0


@dataclass(frozen=True, slots=True)
class Annotations:
    """A judge's preferences between the baseline (1) and one model (2), in the file's order; n rows.

    Attributes:
        model: The model's name.
        preference: Shape (n,): from 1, the baseline is better, to 2, the model is; NaN where the judge failed.
        length_1: Shape (n,): characters of the baseline's output.
        length_2: Shape (n,): characters of the model's output.
        prompt: Shape (n,): each row's place in the official set; None where the file does not tell.
        place: Shape (n,): each row's place in the file.
        is_baseline: The model is the baseline itself.
        switched: Shape (n,): whether the model was shown first; None where the file does not tell.
        outputs: The model's n outputs; None in compact files.
    """

    model: str
    preference: Floats
    length_1: Floats
    length_2: Floats
    prompt: Ints | None
    place: Ints
    is_baseline: bool
    switched: NDArray[np.bool_] | None = None
    outputs: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.preference)

    @property
    def y(self) -> Floats:
        """Shape (n,): preference on 0 (the baseline is better) to 1."""
        return self.preference - 1


@dataclass(frozen=True, slots=True)
class EvalSet:
    """The questions: instructions in the official order, their subset, and what the baseline answers."""

    instructions: tuple[str, ...]
    subsets: tuple[str, ...]
    baseline: tuple[str, ...]


def read_eval_set(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> EvalSet:
    """Read rows of {instruction, output or baseline_output, dataset?, prompt_index?}.

    Raises:
        DataError: A column is missing, or an instruction stands twice.
    """
    found: list[tuple[str, str, str]] = []
    for where, row in rows:
        need(row, ("instruction",), where)
        output = row.get("baseline_output", row.get("output"))
        if not isinstance(row["instruction"], str) or not isinstance(output, str):
            raise DataError(f"{where}: expected texts in `instruction` and in `output` or `baseline_output`")
        _instruction(row, where)
        found.append((row["instruction"], str(row.get("dataset", "")), output))
    if not found:
        raise DataError("the evaluation set has no rows")
    instructions = [instruction for instruction, _, _ in found]
    _refuse_duplicates(instructions, rows[0][0])
    return EvalSet(tuple(instructions), tuple(row[1] for row in found), tuple(row[2] for row in found))


def read_annotations(
    path: Path, model: str | None = None, eval_set: EvalSet | None = None, partial: bool = False
) -> Annotations:
    """Read one model's annotations from JSON, JSONL or parquet, in alpaca_eval's columns or the compact ones.

    Args:
        path: The file.
        model: Which model; needed where the file holds several.
        eval_set: The official instructions, which rows are then placed by.
        partial: Rows that `eval_set` has and the file lacks are no error.

    Raises:
        DataError: A column is missing, rows stand twice or are missing, a value is out of range, no such model.
    """
    return annotations_of(list(located(path)), str(path), model, eval_set, partial)


def annotations_of(
    rows: Sequence[tuple[str, dict[str, Any]]],
    source: str,
    model: str | None = None,
    eval_set: EvalSet | None = None,
    partial: bool = False,
) -> Annotations:
    """The annotations in rows that were read already; as `read_annotations`."""
    if not rows:
        raise DataError(f"{source}: no annotations")
    name, chosen = of_model(with_texts(rows, eval_set), source, model)
    _refuse_mixed_judges([row for _, row in chosen], source)
    compact = "len_1" in chosen[0][1] and "output_2" not in chosen[0][1]
    for where, row in chosen:
        need(row, COMPACT_COLUMNS if compact else FULL_COLUMNS, where)
    preference = np.array([_preference(row, where) for where, row in chosen])
    if compact:
        lengths = np.array([[_length(row, side, where) for side in ("len_1", "len_2")] for where, row in chosen])
        places = np.array([_count(row, "row", where) for where, row in chosen], np.int64)
        _refuse_duplicates([str(place) for place in places], source)
        order = np.argsort(places, kind="stable")
        chosen = [chosen[index] for index in order]
        preference, lengths, places = preference[order], lengths[order], places[order]
        outputs = None
    else:
        _refuse_duplicates([_instruction(row, where) for where, row in chosen], source)
        texts = [[_text(row, side, where) for side in ("output_1", "output_2")] for where, row in chosen]
        lengths = np.array([[float(len(text)) for text in pair] for pair in texts])
        places = np.arange(len(chosen), dtype=np.int64)
        outputs = tuple(pair[1] for pair in texts)
    return Annotations(
        model=name,
        preference=preference,
        length_1=lengths[:, 0],
        length_2=lengths[:, 1],
        prompt=_prompts(chosen, source, eval_set, partial),
        place=places,
        is_baseline=_is_baseline(chosen, preference, lengths),
        switched=_switched(chosen) if "switched" in chosen[0][1] else None,
        outputs=outputs,
    )


def with_texts(
    rows: Sequence[tuple[str, dict[str, Any]]], eval_set: EvalSet | None
) -> list[tuple[str, dict[str, Any]]]:
    """Rows that name their instruction by `prompt_index` only, with its text and the baseline's output."""
    if not rows or eval_set is None or "instruction" in rows[0][1] or "output_2" not in rows[0][1]:
        return list(rows)
    made: list[tuple[str, dict[str, Any]]] = []
    for where, row in rows:
        need(row, ("prompt_index",), where)
        index = _prompt_index(row, where, eval_set)
        texts = {"instruction": eval_set.instructions[index], "output_1": eval_set.baseline[index]}
        made.append((where, row | texts))
    return made


def models_of(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Names of the models that a file of annotations holds, in the order in which they come."""
    return list(dict.fromkeys(name for _, row in rows if (name := _named(row))))


def _named(row: Row) -> str:
    return str(row.get("model") or row.get("generator_2") or "")


def of_model(
    rows: Sequence[tuple[str, dict[str, Any]]], source: str, model: str | None
) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    """A model's name and its rows.

    Raises:
        DataError: The file holds no such model, or several and none is named.
    """
    there = models_of(rows)
    if len(there) <= 1:
        # A published file may name its only model otherwise than the leaderboard does: what is said here is its name.
        return model or (there[0] if there else Path(source).stem), list(rows)
    if model is None:
        raise DataError(f"{source}: holds {len(there)} models; choose one with --model ({listed(there, 60)})")
    if model not in there:
        raise DataError(f"{source}: no model {model!r} (there: {listed(there, 60)})")
    return model, [entry for entry in rows if _named(entry[1]) == model]


def _refuse_mixed_judges(rows: Sequence[Row], source: str) -> None:
    judges = list(dict.fromkeys(str(row["annotator"]) for row in rows if row.get("annotator") is not None))
    if len(judges) > 1:
        raise DataError(f"{source}: mixes the verdicts of {len(judges)} judges ({listed(judges)}); keep one's")


def _preference(row: Row, where: str) -> float:
    value = row["preference"]
    if value is None:
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{where}: `preference`: expected a number, got {value!r}")
    if np.isnan(value) or value == _FAILED:
        return float("nan")
    if value == _TIE:  # As older files have it.
        return 1.5
    if not 1 <= value <= 2:
        raise DataError(f"{where}: `preference`: expected 1 (baseline) to 2 (model), got {value!r}")
    return float(value)


def _length(row: Row, name: str, where: str) -> float:
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise DataError(f"{where}: `{name}`: expected a number of characters, got {value!r}")
    return float(value)


def _text(row: Row, name: str, where: str) -> str:
    value = row[name]
    if value is not None and not isinstance(value, str):
        raise DataError(f"{where}: `{name}`: expected text, got {type(value).__name__}")
    return value or ""


def _refuse_duplicates(keys: Sequence[str], source: str) -> None:
    seen: set[str] = set()
    twice = list(dict.fromkeys(key for key in keys if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    if twice:
        raise DataError(f"{source}: {len(twice)} instructions or rows stand more than once: {listed(twice)}")


def _instruction(row: Row, where: str) -> str:
    value = row["instruction"]
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: `instruction`: expected text, got {value!r}")
    return value


def _count(row: Row, name: str, where: str) -> int:
    need(row, (name,), where)
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DataError(f"{where}: `{name}`: expected an integer from 0, got {value!r}")
    return value


def _switched(rows: Sequence[tuple[str, Row]]) -> NDArray[np.bool_]:
    for where, row in rows:
        need(row, ("switched",), where)
        if not isinstance(row["switched"], bool):
            raise DataError(f"{where}: `switched`: expected true or false, got {row['switched']!r}")
    return np.array([row["switched"] for _, row in rows])


def _prompt_index(row: Row, where: str, eval_set: EvalSet | None) -> int:
    value = _count(row, "prompt_index", where)
    if eval_set is not None and value >= len(eval_set.instructions):
        raise DataError(f"{where}: `prompt_index`: the evaluation set has no instruction {value}")
    return value


def _prompts(
    located_rows: Sequence[tuple[str, Row]], source: str, eval_set: EvalSet | None, partial: bool
) -> Ints | None:
    rows = [row for _, row in located_rows]
    if "prompt_index" in rows[0]:
        prompts = []
        for where, row in located_rows:
            index = _prompt_index(row, where, eval_set)
            if index in prompts:
                raise DataError(f"{where}: `prompt_index`: {index} stands more than once")
            prompts.append(index)
    elif eval_set is None or "instruction" not in rows[0]:
        return None
    else:
        known = {instruction: index for index, instruction in enumerate(eval_set.instructions)}
        strange = [row["instruction"] for row in rows if row["instruction"] not in known]
        if strange:
            raise DataError(f"{source}: {len(strange)} instructions are not in the evaluation set: {listed(strange)}")
        prompts = [known[row["instruction"]] for row in rows]
    if eval_set is not None and not partial:
        there = set(prompts)
        missing = [text for index, text in enumerate(eval_set.instructions) if index not in there]
        if missing:
            raise DataError(f"{source}: {len(missing)} instructions have no annotation: {listed(missing)}")
    return np.array(prompts, np.int64)


def _is_baseline(rows: Sequence[tuple[str, Row]], preference: Floats, lengths: Floats) -> bool:
    names = {(row.get("generator_1"), row.get("generator_2")) for _, row in rows}
    if len(names) == 1 and (pair := next(iter(names)))[0] is not None:
        return bool(pair[0] == pair[1])
    # Without names: outputs of equal lengths that tie everywhere.
    return bool((preference == 1.5).all() and (lengths[:, 0] == lengths[:, 1]).all())
