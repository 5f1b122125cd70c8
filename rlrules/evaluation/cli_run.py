"""What every command that runs a benchmark does: a configuration, judges, progress, a folder, a page."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from rlrules.errors import RecipeError
from rlrules.terminal import progress_bars

if TYPE_CHECKING:
    from rlrules.evaluation.config import EvalConfig

Config = Annotated[str | None, typer.Argument(help="YAML file of the run.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Dotted assignments: limit=40 judge.temperature=0")]
Folder = Annotated[Path | None, typer.Option("-o", "--out", help="The result's folder; the same one goes on.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count requests; asks nothing.")]

C = TypeVar("C", bound="EvalConfig")
Work = Callable[..., Awaitable[dict[str, Any]]]


def loaded(
    path: str | None, overrides: Sequence[str], files: Mapping[str, Path | None], model: type[C], also: str
) -> C:
    """The configuration, with files that flags name put over it.

    Args:
        path: The YAML file.
        overrides: Dotted assignments.
        files: Field -> what its flag says.
        model: The configuration's class.
        also: What may be given instead of a configuration, for the message.

    Raises:
        RecipeError: All problems found, a line each.
    """
    from rlrules.recipe.load import load_config

    if path is None:
        raise RecipeError([f"a configuration is missing: name a YAML file{also}"])
    named = [f"{field}={file}" for field, file in files.items() if file is not None]
    return load_config(path, [*overrides, *named], model)


def run(config: "EvalConfig", work: Work, folder: Path | None, headline: Sequence[str]) -> dict[str, Any]:
    """Run a benchmark with its judges and write its page.

    Raises:
        RecipeError: No folder is given.
        RlrulesError: What the benchmark raises.
    """
    from rlrules.data.rows import read_jsonl
    from rlrules.evaluation.page import SAMPLES, write_page
    from rlrules.evaluation.results import RowLine
    from rlrules.judges import build_judge

    if folder is None:
        raise RecipeError(["-o is missing: name the result's folder"])
    made = {
        name: build_judge(name, section) if (section := getattr(config, name, None)) is not None else None
        for name in ("judge", "model")
    }
    with progress_bars() as tell:

        async def all_of_it() -> dict[str, Any]:
            try:
                return await work(config, made["judge"], made["model"], folder, tell)
            finally:
                for judge in made.values():
                    if judge is not None:
                        await judge.close()

        metrics = asyncio.run(all_of_it())
    lines = (RowLine.model_validate(row) for _, row in read_jsonl(folder / "rows.jsonl"))
    write_page(folder, headline, [line for line, _ in zip(lines, range(SAMPLES), strict=False)])
    return metrics
