"""Rows from files and hubs, whatever they hold."""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlrules.errors import DataError

if TYPE_CHECKING:
    import datasets

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows ready for training, and what was left out on the way.

    Attributes:
        rows: What a trainer takes.
        dropped: How many rows each condition left out.
    """

    rows: Sequence[Mapping[str, Any]]
    dropped: Mapping[str, int]

    def left_out(self) -> str:
        """What was left out, in words; empty where nothing was."""
        return ", ".join(f"{count} by {name}" for name, count in self.dropped.items() if count)


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers (from 1) and objects of a JSONL file, gzipped or not; blank lines are passed over.

    Raises:
        DataError: No such file, one that cannot be read, or a line that is no JSON object in UTF-8, with its number.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        # As bytes: text is decoded far ahead of the line that is read, so that a wrong byte would have no number.
        with opened(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _object(line, f"{path}:{number}")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist (looked in {Path.cwd()})") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8: {error.reason} at byte {error.start} of the line") from error
    except ValueError as error:
        raise DataError(f"{where}: not JSON: {error}") from error
    except RecursionError as error:
        raise DataError(f"{where}: nested too deeply to be read") from error
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object, got {type(value).__name__}")
    return value


def read_rows(path: str, split: str = "train") -> list[Row]:
    """All rows of a file (JSONL, JSON, parquet, CSV; all but JSONL also hf://…), a folder, or a data set on the hub.

    Raises:
        DataError: It cannot be had or has no such split.
    """
    local = Path(path)
    if local.name.endswith((".jsonl", ".jsonl.gz")):
        return [row for _, row in read_jsonl(local)]
    return list(open_dataset(path, split))


def open_dataset(path: str, split: str = "train") -> "datasets.Dataset":
    """A local file (JSON, parquet, CSV), a folder of such files, or a data set on the hub, read when its rows are.

    Raises:
        DataError: It cannot be had or has no such split.
    """
    import datasets

    local, formats = Path(path), {".json": "json", ".parquet": "parquet", ".csv": "csv"}
    try:
        if local.suffix in formats:
            if "://" not in path and not local.exists():
                raise DataError(f"{path} does not exist (looked in {Path.cwd()})")
            return datasets.load_dataset(formats[local.suffix], data_files=path, split="train")
        return datasets.load_dataset(path, split=split)
    except DataError:
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise DataError(f"data {path!r}, split {split!r}: {told}") from error


def read_named(
    path: str, split: str, columns: Mapping[str, str], where: Mapping[str, Any]
) -> tuple[list[tuple[str, Row]], int]:
    """Rows with their columns renamed, those kept that have the values in `where`.

    Args:
        path: As for `read_rows`.
        split: Likewise.
        columns: Our name -> the data's.
        where: Values by our names.

    Returns:
        Each row with its place, for messages; and how many rows `where` left out.

    Raises:
        DataError: The rows cannot be had, or one lacks a column that `columns` or `where` names.
    """
    raw = read_rows(path, split)
    renamed = {theirs: ours for ours, theirs in columns.items()}
    kept: list[tuple[str, Row]] = []
    for number, row in enumerate(raw, 1):
        named = {renamed.get(key, key): value for key, value in row.items()}
        place = f"data {path!r}, row {number}"
        for column in (*where, *columns):
            if column not in named:
                theirs = columns.get(column, column)
                raise DataError(f"{place}: no column {theirs!r} (there: {', '.join(row)})")
        if all(named[key] == value for key, value in where.items()):
            kept.append((place, named))
    return kept, len(raw) - len(kept)
