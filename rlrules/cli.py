"""The command line: `rlrules check|score|serve|engines|rules|data|eval|report`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from rlrules.data.cli import app as data_app
from rlrules.environment import prepare_environment
from rlrules.errors import EngineError
from rlrules.evaluation.cli import app as eval_app
from rlrules.rules.cli import app as rules_app
from rlrules.terminal import print_table, told

app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False, help=__doc__)
app.add_typer(eval_app, name="eval", help="What a model is worth: benchmarks, with intervals.")
app.add_typer(rules_app, name="rules", help="AutoRule: preferences -> rules -> agreement report.")
app.add_typer(data_app, name="data", help="Build a method's training set.")

Recipe = Annotated[str, typer.Argument(help="The recipe's YAML file.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Dotted assignments: training.learning_rate=1e-6")]


@app.command()
def check(
    recipe: Recipe,
    overrides: Overrides = None,
    ping: Annotated[bool, typer.Option(help="Also ask every judge and every rollout server.")] = False,
    ranks: Annotated[int, typer.Option(min=1, help="Ranks that will train.")] = 1,
    offline: Annotated[bool, typer.Option(help="Leave out what needs the model, the data and files.")] = False,
) -> None:
    """Every error in a recipe, or what it will cost."""
    with told():
        from rlrules.recipe.arguments import field_problems
        from rlrules.recipe.estimate import estimate
        from rlrules.recipe.load import load_recipe

        loaded = load_recipe(recipe, overrides or (), field_problems)
        rows = estimate(loaded, ranks, ping, offline)
    print_table(loaded.recipe.name, dict(rows))


@app.command()
def score(
    recipe: Recipe,
    rows: Annotated[Path, typer.Argument(help="JSONL: prompt, completion, group?, and the scorers' columns.")],
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the scored lines go.")] = Path("scored.jsonl"),
    step: Annotated[int, typer.Option(min=1, help="The step that scorers are told.")] = 1,
    total_steps: Annotated[int, typer.Option(min=1, help="The last step that scorers are told.")] = 1,
) -> None:
    """Try a recipe's rewards on logged completions, without training."""
    with told():
        from rlrules.offline import score_file
        from rlrules.recipe.load import load_recipe
        from rlrules.recipe.schema import GrpoRecipe
        from rlrules.types import Progress

        loaded = load_recipe(recipe, overrides or ()).of(GrpoRecipe)
        summary = score_file(loaded, rows, out, Progress(step, max(step, total_steps)))
    print(f"{summary.lines} completions in {summary.groups} groups -> {out}")
    means = Table("reward", "mean", "unscored")
    for name, mean in summary.means.items():
        means.add_row(name, "-" if mean is None else f"{mean:.4f}", str(summary.unscored[name]))
    means.add_row("objective", "-" if summary.reward is None else f"{summary.reward:.4f}", "")
    Console().print(means)


@app.command()
def serve(recipe: Recipe, overrides: Overrides = None) -> None:
    """Serve a recipe's rewards to any trainer, until SIGTERM."""
    with told():
        try:
            from rlrules.serving.run import serve as run
        except ModuleNotFoundError as error:
            raise EngineError(f"{error.name} is not installed; run: pip install 'rlrules[serve]'") from error
        run(recipe, overrides or ())


@app.command()
def engines(recipe: Recipe, overrides: Overrides = None) -> None:
    """Run the vLLM servers of a recipe's `engines`, until SIGTERM."""
    with told():
        from rlrules.serving.engines import keep_engines

        keep_engines(recipe, overrides or ())


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run directory: runs/NAME")],
) -> None:
    """One self-contained HTML page of a run."""
    with told():
        from rlrules.reporting.run_report import write_report

        print(write_report(folder))


def main() -> None:
    """Entry point."""
    prepare_environment()
    app()
