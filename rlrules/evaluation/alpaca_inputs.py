"""The two files that AlpacaEval's length control takes beside annotations: difficulties, and the gamed baselines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlrules.errors import DataError
from rlrules.evaluation.files import located, need

Floats = NDArray[np.float64]

# The two files are made from one fit, and written with all digits.
_SAME = 1e-6


@dataclass(frozen=True, slots=True)
class Gamed:
    """The regulariser's rows: the baseline prompted to be verbose, then to be concise.

    Attributes:
        preference: Shape (m,), on 0 to 1.
        length: Shape (m,): the length feature before its tanh.
        difficulty: Shape (m,).
    """

    preference: Floats
    length: Floats
    difficulty: Floats


def read_gamed(path: Path) -> tuple[Gamed, Floats]:
    """Read df_gamed.csv.

    Returns:
        Its rows, and the difficulty of each instruction that it implies, by index; shape (n,).

    Raises:
        DataError: A column is missing, a cell is no number or out of range, rows are not whole passes over
            instructions 0, 1, 2, …, or passes differ in an instruction's difficulty.
    """
    names = ("preference", "index", "std_delta_len", "instruction_difficulty")
    rows = list(located(path))
    if not rows:
        raise DataError(f"{path}: no rows")
    table = {name: np.array([_number(row, name, where) for where, row in rows]) for name in names}
    preference = table["preference"]
    for place in np.flatnonzero((preference < 0) | (preference > 1))[:1]:
        raise DataError(f"{rows[place][0]}: `preference`: expected 0 to 1, got {preference[place]:g}")
    starts = np.flatnonzero(table["index"] == 0)
    n = int(starts[1]) if len(starts) > 1 else len(rows)
    for place in np.flatnonzero(table["index"] != np.arange(len(rows)) % n)[:1]:
        raise DataError(f"{rows[place][0]}: `index`: expected {place % n}, got {table['index'][place]:g}")
    if len(rows) % n:
        raise DataError(f"{path}: `index`: its last pass ends at {len(rows) % n - 1}, its first at {n - 1}")
    difficulty = table["instruction_difficulty"]
    for place in np.flatnonzero(np.abs(difficulty - difficulty[np.arange(len(rows)) % n]) > _SAME)[:1]:
        raise DataError(
            f"{rows[place][0]}: `instruction_difficulty`: {difficulty[place]:g}, but instruction {place % n} has "
            f"{difficulty[place % n]:g} in the first pass"
        )
    return Gamed(preference, table["std_delta_len"], difficulty), difficulty[:n]


def read_difficulty(path: Path) -> Floats:
    """Read instruction_difficulty.csv, {index, instruction_difficulty}; shape (number of instructions,).

    Raises:
        DataError: A column is missing, a cell is no number, or the indices are not 0, 1, 2, ….
    """
    rows = list(located(path))
    # The official file has no name over its value column's index.
    columns = list(rows[0][1]) if rows else []
    if len(columns) < 2:
        raise DataError(f"{path}: expected the columns index, instruction_difficulty")
    values: list[float] = []
    for place, (where, row) in enumerate(rows):
        if (index := _number(row, columns[0], where)) != place:
            raise DataError(f"{where}: `{columns[0]}`: expected {place}, got {index:g}; rows go 0, 1, 2, …")
        values.append(_number(row, columns[1], where))
    return np.array(values)


def check_agreement(difficulty: Floats, implied: Floats, paths: Sequence[Path]) -> None:
    """Check that both files are of the same instructions.

    Args:
        difficulty: What the first file says, shape (n,).
        implied: What the second does.
        paths: The two files.

    Raises:
        DataError: They differ in number or value.
    """
    if len(difficulty) != len(implied):
        raise DataError(f"{paths[1]}: `index`: {len(implied)} instructions, but {paths[0]} has {len(difficulty)}")
    for place in np.flatnonzero(np.abs(difficulty - implied) > _SAME)[:1]:
        raise DataError(
            f"{paths[1]}: `instruction_difficulty`: instruction {place} has {implied[place]:g}, but {paths[0]} has "
            f"{difficulty[place]:g}"
        )


def _number(row: dict[str, Any], name: str, where: str) -> float:
    need(row, (name,), where)
    value = row[name]
    try:
        number = float("nan" if value is None or isinstance(value, bool) else value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where}: `{name}`: expected a number, got {'nothing' if value is None else repr(value)}")
    return number
