"""`rlrules rules extract|merge|report`: preferences -> rules -> agreement report."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from rlrules.errors import RecipeError, RlrulesError

if TYPE_CHECKING:
    from rlrules.judges import Judge
    from rlrules.judges.base import JudgeConfig
    from rlrules.rules.config import ExtractionConfig
    from rlrules.rules.log import Tell

app = typer.Typer(no_args_is_help=True, help=__doc__)
T = TypeVar("T")

Config = Annotated[str, typer.Argument(help="YAML file: {judge, data, pairs, source, chunk, report}.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Dotted assignments: data.limit=24 source=explanation")]
Folder = Annotated[Path, typer.Option("-o", "--out", help="Folder of all files; the same one goes on where it was.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most this many preferences.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count prompts and estimate tokens; asks nothing.")]


@app.command()
def extract(
    config: Config,
    overrides: Overrides = None,
    out: Folder = Path("rules"),
    limit: Limit = None,
    dry_run: DryRun = False,
) -> None:
    """Preferences to rules.json: explain every pair, take rules from the explanations, merge them."""
    with _told():
        settings = load_config(config, [*(overrides or ()), *([f"data.limit={limit}"] if limit else [])])
        preferences = settings.data.load()
        if dry_run:
            from rlrules.rules.estimate import estimate

            rows = {
                stage.stage: f"{stage.calls:,} prompts, about {stage.prompt_tokens:,} tokens; "
                f"answers at most {stage.answer_tokens:,} tokens"
                for stage in estimate(settings, preferences)
            }
            _table(f"{config}: {len(preferences)} preferences, nothing asked", rows)
            return
        from rlrules.rules.pipeline import run_extraction

        made = _asking(settings.judge, lambda judge, tell: run_extraction(settings, preferences, judge, out, tell))
    _table(f"{len(made.rules)} rules -> {out / 'rules.json'}", made.parent_counts)
    unanswered = [made.parent_counts[name] for name in ("not_explained", "pairs_unanswered", "failed_calls")]
    if any(unanswered):
        print(
            "{} explanations, {} extractions and {} merges got no usable answer; the same command asks again for "
            "those that the judge did not answer at all".format(*unanswered),
            file=sys.stderr,
        )


@app.command()
def merge(
    config: Config,
    overrides: Overrides = None,
    inputs: Annotated[
        list[Path] | None, typer.Option("--from", help="A candidates.jsonl or a rules.json; may be repeated.")
    ] = None,
    out: Folder = Path("rules"),
    dry_run: DryRun = False,
) -> None:
    """Merge candidates or rules files into one rules.json; of the configuration `judge` and `chunk` count."""
    with _told():
        settings = load_config(config, overrides or ())
        if not inputs:
            raise RecipeError(["--from is missing: name a candidates.jsonl or a rules.json, once for each file"])
        if dry_run:
            from rlrules.rules.inputs import read_candidates

            count = len(read_candidates(inputs))
            calls = -(-count // settings.chunk)
            _table(f"{count} candidates, nothing asked", {"merge, round 1": f"{calls} prompts"})
            return
        from rlrules.rules.pipeline import run_merge

        files = inputs
        made = _asking(settings.judge, lambda judge, tell: run_merge(settings, files, judge, out, tell))
    _table(f"{len(made.rules)} rules -> {out / 'rules.json'}", made.parent_counts)


@app.command()
def report(
    config: Config,
    rules: Annotated[Path, typer.Argument(help="The rules file.")],
    overrides: Overrides = None,
    out: Folder = Path("rules"),
    limit: Limit = None,
    dry_run: DryRun = False,
) -> None:
    """How far rules agree with preferences: report.json and report.html."""
    with _told():
        settings = load_config(config, overrides or ())
        data = settings.report.data or settings.data
        if limit:
            data = data.model_copy(update={"limit": limit})
        from rlrules.rewards.rule_set import load_rules

        loaded, preferences = load_rules(rules), data.load()
        verdicts = 2 * len(preferences) * len(loaded) * settings.report.repeats
        if dry_run:
            _table(f"{len(loaded)} rules, {len(preferences)} preferences, nothing asked", {"verdicts": verdicts})
            return
        from rlrules.rules.report import run_report

        made = _asking(
            settings.report.judge or settings.judge,
            lambda judge, tell: run_report(settings.report, loaded, preferences, judge, out, tell),
        )
    shares = {name: _percent(share) for name, share in made["set_accuracy"].items()}
    rows = {f"set accuracy, {name.replace('_', ' ')}": share for name, share in shares.items()} | made["counts"]
    _table(f"{out / 'report.html'}, {out / 'report.json'}", rows)


def load_config(path: str, overrides: "list[str] | tuple[str, ...]" = ()) -> "ExtractionConfig":
    """Read and validate an extraction's YAML file.

    Raises:
        RecipeError: All problems found, a line each.
    """
    from pydantic import ValidationError

    from rlrules.recipe.load import Sources, load_mapping, validation_problems
    from rlrules.rules.config import ExtractionConfig

    content = load_mapping(path, overrides)
    try:
        return ExtractionConfig.model_validate(content)
    except ValidationError as error:
        raise RecipeError(validation_problems(error, ExtractionConfig, content, Sources(file=path))) from error


def _asking(config: "JudgeConfig", work: "Callable[[Judge, Tell], Awaitable[T]]") -> T:
    """Do `work` with the judge, its progress shown."""
    from rlrules.judges import build_judge

    judge = build_judge("judge", config)  # type: ignore[arg-type]
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


def _table(title: str, rows: Mapping[str, Any]) -> None:
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows.items():
        table.add_row(name.replace("_", " "), str(value))
    Console().print(table)


def _percent(share: Mapping[str, Any]) -> str:
    if not share["n"]:
        return "no pair with verdicts on both answers"
    return f"{share['value']:.1%} ({share['low']:.1%} to {share['high']:.1%}, n = {share['n']})"


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except RlrulesError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
