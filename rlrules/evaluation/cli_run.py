"""What every command that runs a benchmark does: a configuration, progress, a folder, numbers."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from rlrules.errors import RecipeError
from rlrules.terminal import print_table, progress_bars

if TYPE_CHECKING:
    from rlrules.evaluation.config import EvalConfig

Config = Annotated[str | None, typer.Argument(help="YAML file of the run.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Dotted assignments: limit=40 judge.temperature=0")]
Folder = Annotated[Path | None, typer.Option("-o", "--out", help="The result's folder; the same one goes on.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count requests; asks nothing.")]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]

C = TypeVar("C", bound="EvalConfig")


def loaded(
    path: str | None, overrides: Sequence[str], files: Mapping[str, Path | None], model: type[C], also: str = ""
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


def run(name: str, config: "EvalConfig", folder: Path | None) -> dict[str, Any]:
    """Run a benchmark and show how far it is.

    Raises:
        RecipeError: No folder is given.
        RlrulesError: What the benchmark raises.
    """
    from rlrules.evaluation.benchmarks import run_benchmark

    if folder is None:
        raise RecipeError(["-o is missing: name the result's folder"])
    with progress_bars() as tell:
        return run_benchmark(name, config, folder, tell)


def refuse(flags: Mapping[str, object], why: str) -> None:
    """Refuse flags that would say nothing.

    Args:
        flags: By name.
        why: Goes on after the flag's name.

    Raises:
        RecipeError: One is given.
    """
    given = [name for name, value in flags.items() if value]
    if given:
        raise RecipeError([f"{given[0]} {why}"])


def needs(flag: str) -> str:
    """Why a flag of existing results is refused in a run."""
    return f"needs {flag}; a run takes what it says from its configuration"


def beside(flag: str) -> str:
    """Why a flag of runs is refused beside existing results."""
    return f"says nothing beside {flag}, with which nothing is run; leave one of them out"


def of_a_run(config: str | None, overrides: list[str] | None, out: Path | None) -> dict[str, object]:
    """What every run takes, under the names that messages give it."""
    return {f"the configuration {config!r}": config, "an assignment": overrides, "-o": out}


def figure(value: float | None, form: str = ".4f") -> str:
    """A number for a table; "-" where it is undefined."""
    return "-" if value is None or math.isnan(value) else format(value, form)


def print_metrics(metrics: Mapping[str, Any], as_json: bool) -> None:
    """A benchmark's numbers as a table, or as one JSON object."""
    from rlrules.evaluation.record import as_jsonable

    if as_json:
        print(json.dumps(as_jsonable(metrics)))
        return
    shown = {name: value for name, value in metrics.items() if not isinstance(value, dict | list)}
    rows: dict[str, Any] = {}
    for name, value in shown.items():
        rows[name] = figure(value) if value is None or isinstance(value, float) else value
        if found := metrics.get("intervals", {}).get(name):
            rows[name] = f"{rows[name]}  ({_interval(found)})"
    for name, part in metrics.items():
        if isinstance(part, dict) and name != "intervals":
            rows |= {f"{name}: {key}": _spread(value) for key, value in part.items()}
    print_table("", rows)
    for warning in metrics.get("warnings", ()):
        print(f"warning: {warning}")


def _spread(value: Any) -> Any:
    """A number with its interval, and a part's numbers, as text; all else as it is."""
    if isinstance(value, dict) and value.keys() == {"value", "low", "high"}:
        return f"{figure(value['value'])}  ({_interval(value)})"
    if isinstance(value, dict) and all(isinstance(part, int | float) for part in value.values()):
        return ", ".join(f"{name} {figure(part) if isinstance(part, float) else part}" for name, part in value.items())
    return value


def _interval(found: Mapping[str, float | None]) -> str:
    return f"95 % interval {figure(found['low'], '.2f')} to {figure(found['high'], '.2f')}"
