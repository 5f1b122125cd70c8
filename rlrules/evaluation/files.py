"""Rows of local files, with their places for messages; quickly, and without torch."""

import json
from collections.abc import Container, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rlrules.data.rows import Row, read_jsonl, read_rows
from rlrules.errors import DataError

_SUFFIXES = ".jsonl, .jsonl.gz, .json, .parquet or .csv"


def located(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row of a file with its place.

    Raises:
        DataError: No such file, an unknown kind, or content that is not of its kind (cut off, for example).
    """
    name = path.name
    if name.endswith((".jsonl", ".jsonl.gz")):
        try:
            yield from ((f"{path}:{line}", row) for line, row in read_jsonl(path))
        except (EOFError, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read; is it whole? {error}") from error
        return
    if not path.exists():
        raise DataError(f"{path} does not exist (looked in {Path.cwd()})")
    for number, row in enumerate(_whole(path), 1):
        if not isinstance(row, dict):
            raise DataError(f"{path}, row {number}: expected an object, got {type(row).__name__}")
        yield f"{path}, row {number}", row


def asked_for(path: str | None, hub: str, split: str, flag: str) -> list[tuple[str, dict[str, Any]]]:
    """Rows of `path` or, without one, of the hub.

    Raises:
        DataError: The hub cannot be had; the message names the flag that takes a file instead.
    """
    if path is not None:
        return list(located(Path(path)))
    try:
        rows = _from_hub(hub) if hub.startswith("hf://") else read_rows(hub, split)
    except DataError as error:
        raise DataError(f"{error}; name a local file with {flag}") from error
    return [(f"{hub}, row {number}", dict(row)) for number, row in enumerate(rows, 1)]


def _from_hub(file: str) -> list[Row]:
    """A JSON file of a data set whose own loader is a script, which is refused."""
    import datasets

    try:
        return list(datasets.load_dataset("json", data_files=file, split="train"))
    except Exception as error:
        raise DataError(f"data {file!r}: {type(error).__name__}: {str(error).splitlines()[0]}") from error


def need(row: Row, names: Iterable[str], where: str) -> None:
    """Check that a row has columns.

    Raises:
        DataError: One is missing.
    """
    missing = [name for name in names if name not in row]
    if missing:
        raise DataError(f"{where}: `{missing[0]}`: is missing (there: {', '.join(row)})")


def refuse_again(key: Hashable, found: Container[Hashable], where: str, name: str) -> None:
    """Check that no earlier row has this one's key.

    Args:
        key: The row's.
        found: Those of the rows before it.
        where: The row's place.
        name: The column that holds the key.

    Raises:
        DataError: One has.
    """
    if key in found:
        said = ", ".join(map(str, key)) if isinstance(key, tuple) else key
        raise DataError(f"{where}: `{name}`: {said} stands more than once; keep one of its rows")


def listed(values: Iterable[Any], at_most: int = 10) -> str:
    """The first of some values, for a message."""
    shown = [str(value) for value in values]
    more = f" and {len(shown) - at_most} more" if len(shown) > at_most else ""
    return ", ".join(" ".join(value.split())[:80] for value in shown[:at_most]) + more


def _whole(path: Path) -> list[Any]:
    try:
        if path.suffix == ".json":
            content = json.loads(path.read_text("utf-8"))
            if not isinstance(content, list):
                raise DataError(f"{path}: expected a list of rows, got {type(content).__name__}")
            return content
        if path.suffix == ".parquet":
            from pyarrow import parquet

            rows: list[Any] = parquet.read_table(path).to_pylist()
            return rows
        if path.suffix == ".csv":
            from pyarrow import csv

            read: list[Any] = csv.read_csv(path).to_pylist()
            return read
    except (OSError, ValueError) as error:  # pyarrow's errors for cut-off files are of these kinds, too.
        raise DataError(f"{path}: cannot be read; is it whole? {str(error).splitlines()[0]}") from error
    raise DataError(f"{path}: expected {_SUFFIXES}")


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSONL, whole or not at all."""
    from rlrules.data.stage_log import write_atomically

    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
