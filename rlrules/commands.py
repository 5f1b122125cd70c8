"""What the groups of the command line share: expected errors, tables, asking with progress."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from rlrules.errors import RlrulesError

if TYPE_CHECKING:
    from rlrules.data.stage_log import Tell
    from rlrules.judges import AnyJudgeConfig, Judge

T = TypeVar("T")


@contextmanager
def told() -> Iterator[None]:
    """Print an expected error as its own lines and exit with 2, without a traceback."""
    try:
        yield
    except RlrulesError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None


def table(title: str, rows: Mapping[str, Any]) -> None:
    """Print a line, and names and values below it."""
    # A table's own title is broken into lines as narrow as the table.
    print(title)
    made = Table(show_header=False)
    for name, value in rows.items():
        made.add_row(name.replace("_", " "), str(value))
    Console().print(made)


def asking(config: "AnyJudgeConfig", work: "Callable[[Judge, Tell], Awaitable[T]]") -> T:
    """Do `work` with the judge, its progress shown."""
    from rlrules.judges import build_judge

    judge = build_judge("judge", config)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bars: dict[str, TaskID] = {}

        def tell(stage: str, done: int, of: int) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=of)
            progress.update(bars[stage], completed=done)

        async def run() -> T:
            try:
                return await work(judge, tell)
            finally:
                await judge.close()

        return asyncio.run(run())
