"""`rlrules eval …`: what a model is worth."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from rlrules.evaluation.cli_judges import app as judges_app
from rlrules.evaluation.cli_run import (
    AsJson,
    Config,
    DryRun,
    Folder,
    Overrides,
    beside,
    loaded,
    needs,
    of_a_run,
    print_metrics,
    refuse,
    run,
)
from rlrules.evaluation.cli_vision import app as vision_app
from rlrules.terminal import told

if TYPE_CHECKING:
    from rlrules.rewards.instruction_checks import Benchmark

app = typer.Typer(no_args_is_help=True, help=__doc__)
app.add_typer(judges_app)
app.add_typer(vision_app)


Responses = Annotated[Path | None, typer.Option(help="JSONL: {key, prompt, instruction_id_list, kwargs, response}.")]
Rows = Annotated[Path | None, typer.Option(help="Where a line for each response goes, with strict and loose.")]
NltkData = Annotated[Path | None, typer.Option(help="Folder of NLTK's punkt_tab, stopwords and tagger.")]
ReferenceRng = Annotated[
    bool, typer.Option("--reference-rng", help="Count a drawn letter where a symbol is asked for, as the reference.")
]


@app.command()
def alpaca(
    config: Config = None,
    overrides: Overrides = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Existing annotations (JSON, JSONL, parquet): only compute the metrics.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Which model, where the annotations hold several.")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="Annotations of another model: also the paired difference to it.")
    ] = None,
    difficulty: Annotated[Path | None, typer.Option(help="instruction_difficulty.csv; without it, none.")] = None,
    gamed: Annotated[Path | None, typer.Option(help="df_gamed.csv; without it, no regulariser.")] = None,
    C: Annotated[float | None, typer.Option("--C", min=1e-9, help="Inverse strength of the penalty; 21.5.")] = None,
    cv: Annotated[bool, typer.Option("--cv", help="Choose C by cross-validation, as upstream does.")] = False,
    legacy_positions: Annotated[
        bool, typer.Option("--legacy-positions", help="Difficulty by the row's place in the file, as upstream.")
    ] = False,
    eval_set: Annotated[Path | None, typer.Option(help="The instructions and the baseline's outputs.")] = None,
    expected: Annotated[Path | None, typer.Option(help="Published numbers: print how far ours deviate.")] = None,
    resamples: Annotated[int | None, typer.Option(min=0, help="Of the bootstrap; 0: no intervals; 1000.")] = None,
    template: Annotated[
        Path | None, typer.Option(help="Of a run: the judge's template, in alpaca_eval's form.")
    ] = None,
    out: Folder = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """AlpacaEval 2: raw and length-controlled win rate against the baseline."""
    with told():
        files = {"eval_set": eval_set, "difficulty": difficulty, "gamed": gamed}
        if annotations is None:
            given = {"--model": model, "--cv": cv, "--expected": expected, "--baseline": baseline}
            refuse({**given, "--legacy-positions": legacy_positions}, needs("--annotations"))
            also = [*(overrides or ()), *_assigned(C=C, resamples=resamples)]
            print_metrics(_alpaca_run(config, also, {**files, "template": template}, out, dry_run), as_json)
            return
        flags = {**of_a_run(config, overrides, out), "--dry-run": dry_run, "--template": template}
        refuse(flags, beside("--annotations"))
        refuse({"--C": C if cv else None}, "says nothing beside --cv, which chooses C")
        from rlrules.evaluation.alpaca_glm import DEFAULT_C, read_inputs
        from rlrules.evaluation.alpaca_metrics import Settings
        from rlrules.evaluation.stats import RESAMPLES

        inputs = read_inputs(difficulty, gamed)
        settings = Settings(C or DEFAULT_C, cv, legacy_positions, RESAMPLES if resamples is None else resamples)
        if expected is not None:
            refuse({"--model": model, "--baseline": baseline, "--eval-set": eval_set}, "says nothing beside --expected")
            _print_deviations(annotations, expected, inputs, settings, as_json)
            return
        metrics = _of_annotations(annotations, model, baseline, eval_set, inputs, settings)
    print_metrics(metrics, as_json)


def _assigned(**values: float | None) -> list[str]:
    """Flags that are fields of the configuration, too, as assignments."""
    return [f"{name}={value}" for name, value in values.items() if value is not None]


def _of_annotations(
    annotations: Path, model: str | None, baseline: Path | None, eval_set: Path | None, inputs: Any, settings: Any
) -> dict[str, Any]:
    from rlrules.evaluation.alpaca_data import annotations_of, read_eval_set
    from rlrules.evaluation.alpaca_metrics import alpaca_metrics
    from rlrules.evaluation.files import located

    questions = read_eval_set(list(located(eval_set))) if eval_set else None
    rows = list(located(annotations))
    found = annotations_of(rows, str(annotations), model, questions, settings.legacy_positions)
    metrics = alpaca_metrics(found, inputs, settings, questions)
    if baseline is not None:
        from rlrules.evaluation.alpaca_paired import paired_with

        metrics["paired"] = paired_with(rows, str(annotations), baseline, inputs, settings, model, questions)
    return metrics


def _alpaca_run(
    path: str | None, overrides: list[str], files: dict[str, Path | None], out: Path | None, dry_run: bool
) -> dict[str, Any]:
    from rlrules.evaluation.alpaca_run import planned
    from rlrules.evaluation.config import AlpacaConfig

    config = loaded(path, overrides, files, AlpacaConfig, ", or existing --annotations")
    return planned(config) if dry_run else run("alpaca", config, out)


@app.command("mt-bench")
def mt_bench(
    config: Config = None,
    overrides: Overrides = None,
    judgments: Annotated[
        Path | None, typer.Option(help="Existing judgments, single or pairwise: only compute the tables.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only this model of the judgments.")] = None,
    resamples: Annotated[
        int | None, typer.Option(min=0, help="Of the bootstrap over questions; 0: no intervals; 1000.")
    ] = None,
    questions: Annotated[Path | None, typer.Option(help="Of a run: question.jsonl.")] = None,
    references: Annotated[Path | None, typer.Option(help="Of a run: reference answers.")] = None,
    template: Annotated[Path | None, typer.Option(help="Of a run: judge templates in FastChat's form.")] = None,
    out: Folder = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """MT-Bench: grades by turn and category, or wins over another model."""
    with told():
        if judgments is None:
            from rlrules.evaluation.config import MTBenchEvalConfig
            from rlrules.evaluation.mt_bench_run import planned

            refuse({"--model": model}, needs("--judgments"))
            also = [*(overrides or ()), *_assigned(resamples=resamples)]
            files = {"questions": questions, "references": references, "template": template}
            settings = loaded(config, also, files, MTBenchEvalConfig, ", or existing --judgments")
            found = planned(settings) if dry_run else run("mt-bench", settings, out)
            print_metrics(found, as_json)
            return
        flags = {**of_a_run(config, overrides, out), "--dry-run": dry_run, "--template": template}
        refuse({**flags, "--questions": questions, "--references": references}, beside("--judgments"))
        from rlrules.evaluation.stats import RESAMPLES

        metrics = _of_judgments(judgments, model, RESAMPLES if resamples is None else resamples)
    for table in metrics["models"].values() if "models" in metrics and not as_json else [metrics]:
        print_metrics(table, as_json)


def _of_judgments(judgments: Path, model: str | None, resamples: int) -> dict[str, Any]:
    from rlrules.errors import DataError
    from rlrules.evaluation.files import listed, located
    from rlrules.evaluation.mt_bench_scores import pairwise_metrics, read_games, read_grades, single_metrics

    rows = list(located(judgments))
    if rows and "g1_winner" in rows[0][1]:
        games = read_games(rows)
        there = dict.fromkeys(name for game in games for name in game.models)
        if model is not None and model not in there:
            raise DataError(f"{judgments}: no model {model!r} (there: {listed(there)})")
        metrics = pairwise_metrics([game for game in games if model in (None, *game.models)], resamples)
        if model is not None:
            metrics = {"model": model, **metrics.pop("models")[model], **metrics}
        return metrics
    grades = read_grades(rows)
    if model is not None and model not in grades:
        raise DataError(f"{judgments}: no model {model!r} (there: {listed(grades)})")
    chosen = [grades[model]] if model is not None else list(grades.values())
    tables = [single_metrics(graded, resamples) for graded in chosen]
    return tables[0] if len(tables) == 1 else {"models": {table["model"]: table for table in tables}}


@app.command()
def ifeval(
    config: Config = None,
    overrides: Overrides = None,
    responses: Responses = None,
    rows: Rows = None,
    nltk_data: NltkData = None,
    reference_rng: ReferenceRng = False,
    out: Folder = None,
    as_json: AsJson = False,
) -> None:
    """IFEval: instructions that a program verifies, strict and loose."""
    if responses is None:
        flags = {"--rows": rows, "--reference-rng": reference_rng}
        _instructions_run("ifeval", config, overrides or [], nltk_data, out, flags, as_json)
    else:
        _only_responses(config, overrides, out)
        _instructions("ifeval", responses, rows, nltk_data, reference_rng, as_json)


@app.command()
def ifbench(
    config: Config = None,
    overrides: Overrides = None,
    responses: Responses = None,
    rows: Rows = None,
    nltk_data: NltkData = None,
    out: Folder = None,
    as_json: AsJson = False,
) -> None:
    """IFBench: harder instructions of the same kind; prompt-level loose is its headline."""
    if responses is None:
        flags = {"--rows": rows}
        _instructions_run("ifbench", config, overrides or [], nltk_data, out, flags, as_json)
    else:
        _only_responses(config, overrides, out)
        _instructions("ifbench", responses, rows, nltk_data, False, as_json)


@app.command("arena-hard")
def arena_hard(
    config: Config = None,
    overrides: Overrides = None,
    battles: Annotated[
        Path | None, typer.Option(help="Existing judgments with two games a prompt, or weighted battles.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="Of battles: the model that all are against.")] = None,
    strong: Annotated[int | None, typer.Option(min=1, help="How often a strong verdict counts; 3.")] = None,
    out: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Arena-Hard: share of verdicts won against the baseline, by category, intervals over prompts."""
    with told():
        if battles is None:
            from rlrules.evaluation.config import ArenaHardConfig

            refuse({"--baseline": baseline}, needs("--battles"))
            also = [*(overrides or ()), *_assigned(strong=strong)]
            settings = loaded(config, also, {}, ArenaHardConfig, ", or existing --battles")
            print_metrics(run("arena-hard", settings, out), as_json)
            return
        refuse(of_a_run(config, overrides, out), beside("--battles"))
        from rlrules.evaluation.arena_hard import STRONG_WEIGHT, arena_hard_metrics, read_battles
        from rlrules.evaluation.files import located

        metrics = arena_hard_metrics(
            read_battles(located(battles), baseline, STRONG_WEIGHT if strong is None else strong)
        )
    if as_json:
        print_metrics(metrics, as_json)
        return
    for name, categories in metrics["models"].items():
        for category, table in categories.items():
            print_metrics({"model": name, "category": category or "all", **table}, as_json)


def _only_responses(config: str | None, overrides: list[str] | None, out: Path | None) -> None:
    with told():
        refuse(of_a_run(config, overrides, out), beside("--responses"))


def _instructions_run(
    benchmark: "Benchmark",
    path: str | None,
    overrides: list[str],
    data: Path | None,
    out: Path | None,
    flags: Mapping[str, object],
    as_json: bool,
) -> None:
    with told():
        refuse(flags, needs("--responses"))
        from rlrules.evaluation.config import InstructionsConfig

        config = loaded(path, overrides, {"nltk_data": data}, InstructionsConfig, ", or existing --responses")
        metrics = run(benchmark, config, out)
    print_metrics(metrics, as_json)


def _instructions(
    benchmark: "Benchmark", responses: Path, rows: Path | None, nltk_data: Path | None, rng: bool, as_json: bool
) -> None:
    with told():
        from rlrules.errors import DataError
        from rlrules.evaluation.files import located, need, write_lines
        from rlrules.evaluation.ifeval import check_responses, instruction_metrics, read_prompts, row_of
        from rlrules.rewards.instruction_checks import prepare

        prepare(nltk_data)
        lines = list(located(responses))
        for where, line in lines:
            need(line, ("response",), where)
            if line["response"] is not None and not isinstance(line["response"], str):
                raise DataError(f"{where}: `response`: expected text, got {type(line['response']).__name__}")
        prompts, texts = read_prompts(lines), [line["response"] for _, line in lines]
        checked = check_responses(benchmark, prompts, texts, rng)
        if rows is not None:
            write_lines(rows, (row_of(*parts) for parts in zip(prompts, texts, checked, strict=True)))
        metrics = {"letters": "drawn" if rng else "literal"} | instruction_metrics(prompts, texts, checked)
    print_metrics(metrics, as_json)


def _print_deviations(annotations: Path, expected: Path, inputs: Any, settings: Any, as_json: bool) -> None:
    from rlrules.evaluation.leaderboard import COMPARED, deviations, largest

    rows = deviations(annotations, expected, inputs, settings)
    worst = largest(rows)
    if as_json:
        print_metrics({"models": rows, "largest": worst}, as_json)
        return
    names = [name for name in COMPARED if name in worst]
    table = Table("model", "C", "LC win rate", *(f"Δ {name}" for name in names), title=f"{len(rows)} models")
    for row in rows:
        shown = [f"{row['deviation'][name]:.1e}" if name in row["deviation"] else "" for name in names]
        table.add_row(row["model"], f"{row['C']:.4g}", f"{row['length_controlled_winrate']:.4f}", *shown)
    table.add_section()
    table.add_row("largest", "", "", *(f"{worst[name]:.1e}" for name in names))
    Console(width=max(Console().width, 160)).print(table)
