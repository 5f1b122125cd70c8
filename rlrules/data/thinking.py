"""What a judge of reasoning is taught: grades of a stronger judge, even over the levels (SophiaVL-R1, section 3.2)."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from rlrules.data.conversations import AnyConversationsConfig, Conversation, Conversations
from rlrules.data.stage_log import Line, StageLog, Tell, content_sha, each, judge_sha, silent, write_atomically
from rlrules.errors import DataError, JudgeError
from rlrules.judges import AnyJudgeConfig, Judge
from rlrules.judges.images import image_url
from rlrules.judges.thinking import LEVELS, grade_thinking, images_of, level_of, thinking_messages
from rlrules.judges.verdict import Outcome
from rlrules.rewards.tagged import read_tagged
from rlrules.types import ContentPart

FULL = "level full"
PARTS = ("train", "held_out")


class ThinkingDataConfig(BaseModel):
    """One training set."""

    model_config = ConfigDict(extra="forbid")

    judge: AnyJudgeConfig = Field(description="The stronger judge, whose grades are learned.")
    data: AnyConversationsConfig = Field(description="Prompts and completions in tags: completions.jsonl of runs, say.")
    per_level: int = Field(15000, ge=1, description="At most this many rows of each of the eleven levels.")
    held_out: float = Field(0.05, ge=0, lt=1, description="Share of questions whose rows are held out, all of them.")
    seed: int = Field(0, description="Of the choice within a level, and of the questions that are held out.")


class GradeLine(Line):
    """A line of grades.jsonl: one reasoning.

    Attributes:
        id: Of its question and its text.
        outcome: "value"; "unparsed", "truncated": no grade came; "failed": no answer, another run asks again.
        grade: 0 to 1, where there is one.
        problem: Why there is none.
    """

    id: str
    outcome: Outcome
    grade: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ThinkingData:
    """What was written.

    Attributes:
        rows: To learn from and held out, by the file's name.
        counts: Everything that came in, and what became of it.
    """

    rows: Mapping[str, int]
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Reasoning:
    where: str
    id: str
    question: str
    conversation: Conversation
    thought: str


async def build_thinking(
    config: ThinkingDataConfig, conversations: Conversations, judge: Judge, folder: Path, tell: Tell = silent
) -> ThinkingData:
    """Grade what is missing in grades.jsonl, then write train.jsonl, held_out.jsonl and skipped.jsonl.

    Args:
        config: The training set.
        conversations: What `config.data` loads.
        judge: The stronger judge.
        folder: Where the files go.
        tell: Told of progress.

    Raises:
        DataError: The folder's grades are of another configuration, or an image cannot be had.
        JudgeError: The judge answered nothing.
    """
    found, skipped = reasonings(conversations)
    sha = content_sha(judge_sha(config.judge), thinking_messages((), (), "")[1])
    log = StageLog(folder / "grades.jsonl", GradeLine, sha)
    done = {line.id for line in log.lines if line.outcome != "failed"}

    async def work(one: _Reasoning) -> None:
        log.append([await _grade(judge, one, sha)])

    await each("grades", [one for one in found if one.id not in done], work, tell)
    latest = {line.id: line for line in log.lines}
    lines = [latest[one.id] for one in found]
    if lines and all(line.outcome == "failed" for line in lines):
        raise JudgeError(f"none of {len(lines)} questions was answered; the first: {lines[0].problem}")
    rows, further = _chosen(config, found, latest)
    skipped += further
    for name in PARTS:
        _write(folder / f"{name}.jsonl", rows[name])
    _write(folder / "skipped.jsonl", skipped)
    return ThinkingData({name: len(rows[name]) for name in PARTS}, _counts(conversations, lines, rows, skipped))


def reasonings(conversations: Conversations) -> tuple[list[_Reasoning], list[dict[str, Any]]]:
    """What there is to grade, each once, and lines for skipped.jsonl."""
    found: dict[str, _Reasoning] = {}
    skipped: list[dict[str, Any]] = []
    for one in conversations.items:
        read = read_tagged(one.answer)
        asked = [message for message in one.prompt if message["role"] != "system"]
        question = content_sha(asked)
        key = content_sha(asked, read.thought)
        problem = read.problem or ("" if read.thought else "no reasoning")
        if problem or key in found:
            told = {"reason": "malformed", "problem": problem} if problem else {"reason": "duplicate", "of": key}
            skipped.append({"where": one.where, **told})
            continue
        found[key] = _Reasoning(one.where, key, question, one, read.thought)
    return list(found.values()), skipped


async def _grade(judge: Judge, one: _Reasoning, sha: str) -> GradeLine:
    prompt = one.conversation.prompt
    try:
        images: list[ContentPart] = [await asyncio.to_thread(image_url, part) for part in images_of(prompt)]
    except DataError as error:
        raise DataError(f"{one.where}: {error}") from error
    graded = await grade_thinking(judge, prompt, images, one.thought)
    grade = graded.value if graded.outcome == "value" else None
    return GradeLine(config_sha=sha, id=one.id, outcome=graded.outcome, grade=grade, problem=graded.reason)


def _chosen(
    config: ThinkingDataConfig, found: Sequence[_Reasoning], grades: Mapping[str, GradeLine]
) -> tuple[dict[str, list[dict[str, Any]]], list[dict[str, Any]]]:
    """Rows of each part in the data's order, and lines for skipped.jsonl."""
    skipped: list[dict[str, Any]] = []
    by_level: dict[str, list[_Reasoning]] = {level: [] for level in LEVELS}
    for one in found:
        line = grades[one.id]
        if line.grade is None:
            reason = "unanswered" if line.outcome == "failed" else "no grade"
            skipped.append({"where": one.where, "reason": reason, "problem": line.problem})
        else:
            by_level[level_of(line.grade)].append(one)
    kept: dict[str, str] = {}
    for level, members in by_level.items():
        # By lot, so that no level is all of the questions that came first.
        order = random.Random(f"{config.seed}:{level}").sample(members, len(members))
        kept |= {one.id: level for one in order[: config.per_level]}
        skipped += [{"where": one.where, "reason": FULL, "level": level} for one in order[config.per_level :]]
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in PARTS}
    for one in found:
        if one.id in kept:
            # By the question alone: all its rows go together, whatever else is in the data.
            apart = random.Random(f"{config.seed}:{one.question}").random() < config.held_out
            rows["held_out" if apart else "train"].append(_row(one, kept[one.id], grades[one.id]))
    return rows, skipped


def _row(one: _Reasoning, level: str, line: GradeLine) -> dict[str, Any]:
    """A row of `{type: conversations}`: asked as the scorer asks, with images as they stand in the prompt."""
    prompt = one.conversation.prompt
    messages, _ = thinking_messages(prompt, images_of(prompt), one.thought)
    return {
        "id": one.id,
        "question": one.question,
        "prompt": list(messages),
        "completion": level,
        "grade": line.grade,
        "where": one.where,
    }


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))


def _counts(
    conversations: Conversations,
    lines: Sequence[GradeLine],
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    skipped: Sequence[Mapping[str, Any]],
) -> dict[str, int]:
    levels = Counter(row["completion"] for part in rows.values() for row in part)
    graded = Counter(level_of(line.grade) for line in lines if line.grade is not None)
    reasons = Counter(row["reason"] for row in skipped)
    return {
        **{f"rows_dropped: {reason}": count for reason, count in conversations.dropped.items()},
        "completions": len(conversations.items),
        **{name: len(part) for name, part in rows.items()},
        **{f"skipped: {reason}": count for reason, count in sorted(reasons.items())},
        **{f"level {level}": levels[level] for level in LEVELS},
        **{f"graded {level}": graded[level] for level in LEVELS},
    }
