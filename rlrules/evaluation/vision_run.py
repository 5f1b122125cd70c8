"""Jigsaw puzzles and clicks on screenshots put to a served model: answers, numbers, a page."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rlrules.data.gui import messages
from rlrules.data.gui_rows import GuiRow, screenshot_size
from rlrules.data.rows import Row
from rlrules.data.stage_log import Tell, content_sha
from rlrules.evaluation.config import GuiEvalConfig, JigsawEvalConfig, StepsConfig, VisionEvalConfig
from rlrules.evaluation.generation import Chat, answer_all, truncated, whole_answers
from rlrules.evaluation.gui import action_metrics, grounding_metrics
from rlrules.evaluation.gui_steps import read_tasks
from rlrules.evaluation.jigsaw_questions import question_metrics
from rlrules.evaluation.results import (
    ResultRows,
    check_failures,
    judge_identity,
    open_manifest,
    usage_record,
    write_results,
)
from rlrules.judges import Judge
from rlrules.rewards.gui_frames import Frame, seen_size
from rlrules.rewards.gui_parse import ACTIONS

Line = tuple[str, Mapping[str, Any]]
Measure = Callable[[Sequence[Line], int], dict[str, Any]]


async def run_jigsaw(config: JigsawEvalConfig, judge: None, model: Judge, folder: Path, tell: Tell) -> dict[str, Any]:
    """Ask what has no answer yet; a puzzle without one is counted and has no number.

    Raises:
        DataError: The images cannot be had, or the folder holds another result.
        JudgeError: Too many puzzles have no answer.
    """
    rows = list(islice(config.data.load(len).rows, config.limit))

    def measure(lines: Sequence[Line], resamples: int) -> dict[str, Any]:
        return question_metrics(lines, config.data.think, resamples, config.seed)

    return await _run("jigsaw", config, model, rows, folder, tell, measure, "exact")


async def run_gui(config: GuiEvalConfig, judge: None, model: Judge, folder: Path, tell: Tell) -> dict[str, Any]:
    """Ask what has no answer yet, and see which clicks hit, or which steps are right; without an answer is no number.

    Raises:
        DataError: The steps cannot be had, none is a click, or the folder holds another result.
        JudgeError: Too many steps have no answer.
    """
    rows: list[Row]
    counts: dict[str, int] = {}
    if config.steps is not None:
        rows, metrics, unit = _steps(config.steps, config.limit), action_metrics, "step_accuracy"
        frame = config.steps.frame
    else:
        assert config.data is not None
        every = config.data.load(len).rows
        clicks = [{**row, "box": row["bbox"]} for row in every if row["bbox"] is not None]
        counts["n_of_other_actions"] = len(every) - len(clicks)
        rows, metrics, unit = list(clicks[: config.limit]), grounding_metrics, "accuracy"
        frame = config.data.frame
    bounds = config.seen.factor, config.seen.min_pixels, config.seen.max_pixels
    rows = [{**row, "seen_size": _seen(frame, row, bounds)} for row in rows]

    def measure(lines: Sequence[Line], resamples: int) -> dict[str, Any]:
        return metrics(lines, resamples, config.seed)

    return await _run("gui", config, model, rows, folder, tell, measure, unit, counts)


def _steps(config: StepsConfig, limit: int | None) -> list[Row]:
    """AndroidControl's steps as the policy is asked for one."""
    made: list[Row] = []
    for name, (task, target) in islice(read_tasks(Path(config.path)).items(), limit):
        step = GuiRow(name, f"{config.path}: {name}", str(Path(config.images) / name), task, target["action"], None)
        size = screenshot_size(step)
        prompt = messages(step, size, ACTIONS, config.think, "point", config.frame)
        made.append({"id": name, "prompt": prompt, "target": target, "image_size": list(size)})
    return made


def _seen(frame: Frame, row: Row, bounds: tuple[int, int, int]) -> list[float] | None:
    width, height = row["image_size"]
    found = seen_size(frame, (width, height), None, bounds)
    return None if found is None else list(found)


async def _run(
    benchmark: str,
    config: VisionEvalConfig,
    model: Judge,
    rows: Sequence[Row],
    folder: Path,
    tell: Tell,
    measure: Measure,
    unit: str,
    counts: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """What both have in common: `measure` makes numbers of lines, of which `unit` is compared line by line."""
    identity = {
        "benchmark": benchmark,
        "name": config.name or config.model.model,
        "model": judge_identity(config.model),
        "seed": config.seed,
        "questions": content_sha([dict(row) for row in rows]),
    }
    sha = open_manifest(folder, identity)
    log = ResultRows(folder / "answers.jsonl", sha)
    chats = [_chat(row, config.seed) for row in rows]
    await answer_all(chats, model, log, tell)
    answers = check_failures(log, [chat.key for chat in chats], config.max_failed, "answers")
    said = whole_answers(log)
    lines: list[Line] = [
        (f"row {row['id']}", {**row, "response": said[key][0], "tokens": said[key][1]})
        for row in rows
        if (key := str(row["id"])) in said
    ]
    metrics = measure(lines, config.resamples)
    written, units = ResultRows(folder / "rows.jsonl", sha), {}
    for _, line in lines:
        key = str(line["id"])
        units[key] = [float(measure([(key, line)], 0)[unit]), 1.0]
        if written.pending([key]):
            kept = {name: value for name, value in line.items() if name != "prompt"}
            written.add(key, {**kept, unit: units[key][0]})
    metrics |= {"counts": {"answers": answers | {"n_truncated": truncated(log)}, **(counts or {})}}
    metrics |= {"usage": {"model": usage_record(model.usage)}}
    write_results(folder, {"benchmark": benchmark, **metrics}, {unit: units})
    return metrics


def _chat(row: Row, seed: int) -> Chat:
    """A prompt of one turn, as the policy is asked."""
    *before, asked = row["prompt"]
    return Chat(str(row["id"]), (asked["content"],), before[0]["content"] if before else "", draw=seed)
