"""What all commands share on a terminal: expected errors, tables, progress."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from rlrules.errors import RlrulesError


@contextmanager
def told() -> Iterator[None]:
    """Print an expected error as its own lines and exit with 2, without a traceback."""
    try:
        yield
    except RlrulesError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None


def print_table(title: str, rows: Mapping[str, Any]) -> None:
    """Print a line, and names and values below it, a row each."""
    # A table's own title is broken into lines as narrow as the table.
    print(title)
    table = Table(show_header=False)
    for name, value in rows.items():
        table.add_row(name.replace("_", " "), str(value))
    Console().print(table)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each stage that what is yielded is told of: its name, items done, items in all."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bars: dict[str, TaskID] = {}

        def tell(stage: str, done: int, of: int) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=of)
            progress.update(bars[stage], completed=done, total=of)

        yield tell
