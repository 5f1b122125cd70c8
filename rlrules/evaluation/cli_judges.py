"""`rlrules eval reward-bench|rm-bench|preference|rules|calibrate|compare`: judges, reward models, and results."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from rlrules.evaluation.cli_run import AsJson, Config, Folder, Overrides, loaded, print_metrics, run
from rlrules.terminal import told

app = typer.Typer()


@app.command("reward-bench")
def reward_bench(
    config: Config = None, overrides: Overrides = None, out: Folder = None, as_json: AsJson = False
) -> None:
    """RewardBench 1 and 2: a judge's or reward model's accuracy, by section and by example."""
    with told():
        from rlrules.evaluation.config import RewardBenchConfig
        from rlrules.evaluation.reward_run import run_reward_bench

        settings = loaded(config, overrides or [], {}, RewardBenchConfig)
        metrics = run(settings, run_reward_bench, out, ("overall", "example_weighted"))
    print_metrics(metrics, as_json)


@app.command("rm-bench")
def rm_bench(config: Config = None, overrides: Overrides = None, out: Folder = None, as_json: AsJson = False) -> None:
    """RM-Bench: does substance beat style, by domain and difficulty."""
    with told():
        from rlrules.evaluation.config import RMBenchConfig
        from rlrules.evaluation.reward_run import run_rm_bench

        settings = loaded(config, overrides or [], {}, RMBenchConfig)
        metrics = run(settings, run_rm_bench, out, ("overall", "easy", "normal", "hard", "example_weighted"))
    print_metrics(metrics, as_json)


@app.command()
def preference(config: Config = None, overrides: Overrides = None, out: Folder = None, as_json: AsJson = False) -> None:
    """How often a judge or reward model prefers what people preferred, on any preferences."""
    with told():
        from rlrules.evaluation.config import PreferenceEvalConfig
        from rlrules.evaluation.reward_run import run_preference

        settings = loaded(config, overrides or [], {}, PreferenceEvalConfig)
        metrics = run(settings, run_preference, out, ("accuracy", "accuracy_ties_half", "macro"))
    print_metrics(metrics, as_json)


@app.command()
def rules(config: Config = None, overrides: Overrides = None, out: Folder = None, as_json: AsJson = False) -> None:
    """How far a model's answers satisfy a rules file."""
    with told():
        from rlrules.evaluation.config import RulesEvalConfig
        from rlrules.evaluation.rules_run import run_rules

        metrics = run(loaded(config, overrides or [], {}, RulesEvalConfig), run_rules, out, ("satisfied",))
    print_metrics(metrics, as_json)


@app.command()
def calibrate(config: Config = None, overrides: Overrides = None, out: Folder = None, as_json: AsJson = False) -> None:
    """A judge against stored verdicts: agreement, kappa, ranks of models, what sways it, what it costs."""
    with told():
        from rlrules.evaluation.calibration import run_calibration
        from rlrules.evaluation.config import CalibrationConfig

        settings = loaded(config, overrides or [], {}, CalibrationConfig)
        headline = ("agreement", "kappa", "spearman_of_models", "flip_rate", "p_first", "p_longer")
        metrics = run(settings, run_calibration, out, headline)
    print_metrics(metrics, as_json)


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Finished results of one benchmark; the first is the base.")],
    mixed_judges: Annotated[
        bool, typer.Option("--mixed-judges", help="Results of different judges may stand in one table.")
    ] = False,
    difficulty: Annotated[Path | None, typer.Option(help="Of AlpacaEval: instruction_difficulty.csv.")] = None,
    gamed: Annotated[Path | None, typer.Option(help="Of AlpacaEval: df_gamed.csv.")] = None,
    as_json: AsJson = False,
) -> None:
    """Results side by side, with paired intervals of their differences to the first."""
    with told():
        from rlrules.evaluation.alpaca_glm import read_inputs
        from rlrules.evaluation.compare import compare as compare_results

        found = compare_results(folders, mixed_judges, read_inputs(difficulty, gamed))
    if as_json:
        print(json.dumps(found))
        return
    title = f"{found['benchmark']}, {found['metric'].replace('_', ' ')}, {found['n_units']} shared units"
    table = Table(
        "result", "model", "judge", found["metric"].replace("_", " "), "difference, 95 % interval", title=title
    )
    for row in found["results"]:
        gaps = [("", row.get("difference")), ("length-controlled ", row.get("length_controlled_difference"))]
        shown = [f"{what}{gap['value']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})" for what, gap in gaps if gap]
        table.add_row(row["folder"], row["name"], row["judge"], f"{row['value']:.4f}", "\n".join(shown))
    Console().print(table)
