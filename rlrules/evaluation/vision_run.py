"""Jigsaw puzzles and clicks on screenshots put to a served model: answers, numbers, a page."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rlrules.data.rows import Row
from rlrules.data.stage_log import Tell, content_sha
from rlrules.evaluation.config import GuiEvalConfig, JigsawEvalConfig, VisionEvalConfig
from rlrules.evaluation.generation import Chat, answer_all, truncated, whole_answers
from rlrules.evaluation.gui import grounding_metrics
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
from rlrules.rewards.gui_frames import seen_size

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
    """Ask what has no answer yet, and see which clicks hit; a step without an answer has no number.

    Raises:
        DataError: The steps cannot be had, none is a click, or the folder holds another result.
        JudgeError: Too many steps have no answer.
    """
    steps = config.data.load(len)
    clicks = [row for row in steps.rows if row["bbox"] is not None]
    bounds = config.seen.factor, config.seen.min_pixels, config.seen.max_pixels
    rows: list[Row] = []
    for row in clicks[: config.limit]:
        width, height = row["image_size"]
        frame = seen_size(config.data.frame, (width, height), None, bounds)
        rows.append({**row, "box": row["bbox"], "seen_size": None if frame is None else list(frame)})

    def measure(lines: Sequence[Line], resamples: int) -> dict[str, Any]:
        return grounding_metrics(lines, resamples, config.seed)

    left_out = {"n_of_other_actions": len(steps.rows) - len(clicks)}
    return await _run("gui", config, model, rows, folder, tell, measure, "accuracy", left_out)


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
