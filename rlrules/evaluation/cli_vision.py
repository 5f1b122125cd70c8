"""`rlrules eval gui|jigsaw`: models that see."""

from pathlib import Path
from typing import Annotated

import typer

from rlrules.evaluation.cli_run import (
    AsJson,
    Config,
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
from rlrules.terminal import told

app = typer.Typer()


@app.command()
def gui(
    config: Config = None,
    overrides: Overrides = None,
    predictions: Annotated[
        Path | None, typer.Option(help="A line per sample: points or actions, or whole responses.")
    ] = None,
    steps: Annotated[Path | None, typer.Option(help="AndroidControl's steps, {image, task, gt} each.")] = None,
    out: Folder = None,
    as_json: AsJson = False,
) -> None:
    """GUI agents: clicks that hit their element, or whole steps, whichever the lines hold; a run asks for clicks."""
    with told():
        if predictions is None:
            from rlrules.evaluation.config import GuiEvalConfig

            refuse({"--steps": steps}, needs("--predictions"))
            settings = loaded(config, overrides or [], {}, GuiEvalConfig, ", or existing --predictions")
            print_metrics(run("gui", settings, out), as_json)
            return
        refuse(of_a_run(config, overrides, out), beside("--predictions"))
        from rlrules.evaluation.files import located
        from rlrules.evaluation.gui import action_metrics, grounding_metrics
        from rlrules.evaluation.gui_steps import answered, read_steps

        lines = list(located(predictions))
        if steps is not None:
            lines = list(answered(read_steps(steps), lines))
        metrics = action_metrics(lines) if lines and "target" in lines[0][1] else grounding_metrics(lines)
    print_metrics(metrics, as_json)


@app.command()
def jigsaw(
    config: Config = None,
    overrides: Overrides = None,
    responses: Annotated[
        Path | None,
        typer.Option(help="JSONL: {id, rows, columns, arrangement, response}, or rows of data with answers."),
    ] = None,
    think: Annotated[
        bool | None, typer.Option("--think/--no-think", help="Of rows of data: thoughts were asked for; yes.")
    ] = None,
    out: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Jigsaw puzzles: how much is right, beside what guessing gets; solved and unsolved puzzles apart."""
    with told():
        if responses is None:
            from rlrules.evaluation.config import JigsawEvalConfig

            refuse({"--think, --no-think": think is not None}, needs("--responses"))
            settings = loaded(config, overrides or [], {}, JigsawEvalConfig, ", or existing --responses")
            print_metrics(run("jigsaw", settings, out), as_json)
            return
        refuse(of_a_run(config, overrides, out), beside("--responses"))
        from rlrules.evaluation.files import located
        from rlrules.evaluation.jigsaw import jigsaw_metrics
        from rlrules.evaluation.jigsaw_questions import question_metrics

        lines = list(located(responses))
        asked = bool(lines) and "question" in lines[0][1]
        metrics = question_metrics(lines, think is not False) if asked else jigsaw_metrics(lines)
    print_metrics(metrics, as_json)
