"""`rlrules eval reward-bench|rm-bench|preference|rules|calibrate|compare`: judges, reward models, and results."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from rlrules.evaluation.cli_run import AsJson, Config, Folder, Overrides, figure, loaded, print_metrics, run
from rlrules.terminal import told

app = typer.Typer()


@app.command("reward-bench")
def reward_bench(
    config: Config = None, overrides: Overrides = None, out: Folder = None, as_json: AsJson = False
) -> None:
    """RewardBench 1 and 2: a judge's or reward model's accuracy, by section and by example."""
    with told():
        from rlrules.evaluation.config import RewardBenchConfig

        metrics = run("reward-bench", loaded(config, overrides or [], {}, RewardBenchConfig), out)
    print_metrics(metrics, as_json)


@app.command("rm-bench")
def rm_bench(config: Config = None, overrides: Overrides = None, out: Folder = None, as_json: AsJson = False) -> None:
    """RM-Bench: does substance beat style, by domain and difficulty."""
    with told():
        from rlrules.evaluation.config import RMBenchConfig

        metrics = run("rm-bench", loaded(config, overrides or [], {}, RMBenchConfig), out)
    print_metrics(metrics, as_json)


@app.command()
def preference(config: Config = None, overrides: Overrides = None, out: Folder = None, as_json: AsJson = False) -> None:
    """How often a judge or reward model prefers what people preferred, on any preferences."""
    with told():
        from rlrules.evaluation.config import PreferenceEvalConfig

        metrics = run("preference", loaded(config, overrides or [], {}, PreferenceEvalConfig), out)
    print_metrics(metrics, as_json)


@app.command()
def rules(config: Config = None, overrides: Overrides = None, out: Folder = None, as_json: AsJson = False) -> None:
    """How far a model's answers satisfy a rules file."""
    with told():
        from rlrules.evaluation.config import RulesEvalConfig

        metrics = run("rules", loaded(config, overrides or [], {}, RulesEvalConfig), out)
    print_metrics(metrics, as_json)


@app.command()
def calibrate(config: Config = None, overrides: Overrides = None, out: Folder = None, as_json: AsJson = False) -> None:
    """A judge against stored verdicts: agreement, kappa, ranks of models, what sways it, what it costs."""
    with told():
        from rlrules.evaluation.config import CalibrationConfig

        metrics = run("calibrate", loaded(config, overrides or [], {}, CalibrationConfig), out)
    print_metrics(metrics, as_json)


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Finished results of one benchmark; the first is the base.")],
    mixed_judges: Annotated[
        bool, typer.Option("--mixed-judges", help="Results of different judges may stand in one table.")
    ] = False,
    difficulty: Annotated[
        Path | None, typer.Option(help="Of AlpacaEval: instruction_difficulty.csv, if moved.")
    ] = None,
    gamed: Annotated[Path | None, typer.Option(help="Of AlpacaEval: df_gamed.csv, if moved.")] = None,
    as_json: AsJson = False,
) -> None:
    """Results side by side, with paired intervals of their differences to the first."""
    with told():
        from rlrules.evaluation.compare import compare as compare_results

        found = compare_results(folders, mixed_judges, {"difficulty": difficulty, "gamed": gamed})
    if as_json:
        print(json.dumps(found))
        return
    title = f"{found['benchmark']}, {found['metric'].replace('_', ' ')}, {found['n_units']} shared units"
    if found["units_left_out"]:
        title += f", {found['units_left_out']} left out that a result lacks"
    table = Table(
        "result", "model", "judge", found["metric"].replace("_", " "), "difference, 95 % interval", title=title
    )
    for row in found["results"]:
        gaps = [("", row.get("difference")), ("length-controlled ", row.get("length_controlled_difference"))]
        shown = [
            "{}{} ({} to {})".format(what, *(figure(gap[part], "+.3f") for part in ("value", "low", "high")))
            for what, gap in gaps
            if gap
        ]
        table.add_row(row["folder"], row["name"], row["judge"], figure(row["value"]), "\n".join(shown))
    Console().print(table)
    for warning in found["warnings"]:
        print(f"warning: {warning}")
