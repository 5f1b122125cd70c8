"""A small training set for GUI agents: steps that are sound, hard for the untouched model, and of every kind.

UI-R1 (section 3.4) names the three steps and released no code for them; what they mean in detail is decided here.
"""

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from rlrules.data.gui import messages
from rlrules.data.gui_rows import GuiRow, read_gui_rows, screenshot_size
from rlrules.data.stage_log import Line, StageLog, Tell, content_sha, each, judge_sha, silent, write_atomically
from rlrules.errors import DataError, JudgeError
from rlrules.images import open_image
from rlrules.judges import AnyJudgeConfig, Judge, JudgeFailure, Question
from rlrules.judges.images import image_url
from rlrules.judges.verdict import thought_and_answer
from rlrules.rewards.gui import GuiConfig
from rlrules.rewards.gui_frames import FACTOR, MAX_PIXELS, MIN_PIXELS, Frame
from rlrules.rewards.gui_parse import ACTIONS, ActionName, read_action
from rlrules.types import ContentPart, Message

TEMPLATE = "gui_step"
# Pictures are large: no more of them than servers work on.
_ENCODED = 256


class GuiSource(BaseModel):
    """Steps to choose from."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(description="JSON, JSONL, CSV, parquet, a folder, or a data set on the hub.")
    split: str = "train"
    columns: dict[str, str] = Field(default_factory=dict, description="Our name -> the data's.")
    images: str | None = Field(None, description="Folder that image paths are relative to; null: that of the file.")
    actions: list[ActionName] = Field(list(ACTIONS), min_length=1, description="To be taken from here.")
    episodes: int | None = Field(None, ge=1, description="Only those of so many episodes, drawn by the seed.")


class GuiSelectConfig(BaseModel):
    """One selection."""

    model_config = ConfigDict(extra="forbid")

    judge: AnyJudgeConfig = Field(description="The model to be trained, untouched: asked once a step.")
    sources: dict[str, GuiSource] = Field(min_length=1, description="By name, which begins the steps' ids.")
    actions: list[ActionName] = Field(list(ACTIONS), min_length=1, description="Offered in the prompt.")
    think: bool = Field(True, description="Ask for a thought, whose length ranks what went wrong.")
    frame: Frame = Field("resized", description="Units of the model's coordinates.")
    min_pixels: int = Field(MIN_PIXELS, ge=1, description="Of the server's processor.")
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="Likewise.")
    factor: int = Field(FACTOR, ge=1, description="Likewise.")
    keep: int | None = Field(None, ge=1, description="Steps to keep; null: all that were answered wrongly.")
    at_least: int = Field(1, ge=0, description="Of each kind, an action or an element's type, as far as there are any.")
    per_image: int | None = Field(None, ge=1, description="Steps to keep of one screenshot.")
    seed: int = Field(0, description="Of the episodes that are drawn.")

    @field_validator("sources")
    @classmethod
    def _offered(cls, sources: dict[str, GuiSource]) -> dict[str, GuiSource]:
        if any(":" in name for name in sources):
            raise ValueError("names of sources hold no colon")
        return sources

    def reward(self) -> GuiConfig:
        """What says whether an answer is right."""
        bounds = {"min_pixels": self.min_pixels, "max_pixels": self.max_pixels, "factor": self.factor}
        return GuiConfig.model_validate({"think": self.think, "frame": self.frame, **bounds})


class Tried(Line):
    """A line of answers.jsonl: what the untouched model made of a step.

    Attributes:
        id: The step's.
        outcome: "right", "wrong"; "failed": it gave no answer, another run asks again.
        text: What it said, its thought apart.
        thought: Its thought, without tags.
        problem: Why it failed.
    """

    id: str
    outcome: Literal["right", "wrong", "failed"]
    text: str = ""
    thought: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A step that is sound.

    Attributes:
        id: Its source's name and its own id.
        row: The step.
        size: Of its screenshot, in pixels.
    """

    id: str
    row: GuiRow
    size: tuple[int, int]

    @property
    def kind(self) -> str:
        """What it adds to a set's diversity."""
        return f"{self.row.action} {self.row.element}".strip()


@dataclass(frozen=True, slots=True)
class GuiSelection:
    """What was written.

    Attributes:
        selected: Steps kept.
        counts: Everything that came in, and what became of it; the steps' parts add up to all of them.
        kinds: Steps kept, by kind.
    """

    selected: int
    counts: Mapping[str, int]
    kinds: Mapping[str, int]


def sound(config: GuiSelectConfig) -> tuple[list[Candidate], dict[str, str]]:
    """Quality: steps that can be learned from, and why each of the others cannot, by its id.

    Raises:
        DataError: The data cannot be had, two steps have one id, or episodes are wanted and a row has none.
    """
    left_out: dict[str, str] = {}
    found: list[Candidate] = []
    seen: set[str] = set()
    for name, source in config.sources.items():
        rows = read_gui_rows(source.path, source.split, source.columns, source.images)
        episodes = _episodes(rows, source, f"{config.seed}:{name}")
        for row in rows:
            id_ = f"{name}:{row.id}"
            if id_ in seen:
                raise DataError(f"{row.where}: the id {row.id!r} stands twice")
            seen.add(id_)
            size, reason = _looked_at(row, source, episodes)
            if size is None:
                left_out[id_] = reason
            else:
                found.append(Candidate(id_, row, size))
    unsure = _contradicted(found)
    kept: dict[str, Candidate] = {}
    for one in found:
        if _question_of(one) in unsure:
            left_out[one.id] = "asked for in two ways"
        elif kept.setdefault(_question_of(one), one) is not one:
            left_out[one.id] = "stands twice"
    return list(kept.values()), left_out


def _looked_at(row: GuiRow, source: GuiSource, episodes: frozenset[str] | None) -> tuple[tuple[int, int] | None, str]:
    """The size of a sound step's screenshot; or why the step is left out."""
    if episodes is not None and row.episode not in episodes:
        return None, "of another episode"
    if row.action in ACTIONS and row.action not in source.actions:
        return None, "action not taken from there"
    try:
        size = screenshot_size(row)
    except DataError:
        return None, "no image"
    reason = row.fault(size)[0]
    return (None, reason) if reason else (size, "")


def _episodes(rows: Sequence[GuiRow], source: GuiSource, seed: str) -> frozenset[str] | None:
    if source.episodes is None:
        return None
    for row in rows:
        if not row.episode:
            raise DataError(f"{row.where}: no `episode`, of which {source.episodes} are wanted; name it in columns")
    there = sorted({row.episode for row in rows})
    return frozenset(random.Random(seed).sample(there, min(source.episodes, len(there))))


def _question_of(one: Candidate) -> str:
    return json.dumps([one.row.image, one.row.instruction])


def _contradicted(found: Iterable[Candidate]) -> set[str]:
    """Questions with more than one right answer."""
    answers: dict[str, set[str]] = defaultdict(set)
    for one in found:
        answers[_question_of(one)].add(json.dumps([one.row.action, one.row.bbox]))
    return {question for question, right in answers.items() if len(right) > 1}


async def select(
    config: GuiSelectConfig,
    candidates: Sequence[Candidate],
    left_out: Mapping[str, str],
    judge: Judge,
    folder: Path,
    tell: Tell = silent,
) -> GuiSelection:
    """Difficulty and diversity: ask what is missing in answers.jsonl; write selected.jsonl and left_out.jsonl.

    Args:
        config: The selection.
        candidates: Sound steps.
        left_out: Why others are not, by id; both as of `sound`.
        judge: The untouched model.
        folder: Where the files go.
        tell: Told of progress.

    Raises:
        DataError: The folder's answers are of another configuration, or an image cannot be read.
        JudgeError: The model answered nothing.
    """
    latest = await _tried(config, candidates, judge, folder, tell)
    reasons = dict(left_out)
    wrong: list[Candidate] = []
    for one in candidates:
        outcome = latest[one.id].outcome
        if outcome == "wrong":
            wrong.append(one)
        else:
            reasons[one.id] = {"right": "answered rightly", "failed": "unanswered"}[outcome]
    lengths = {one.id: len(latest[one.id].thought) for one in wrong}
    chosen = diverse(wrong, lengths, config.keep, config.at_least, config.per_image, reasons)
    rows = [_written(one, lengths[one.id], folder) for one in chosen]
    write_atomically(folder / "selected.jsonl", _lines(rows))
    write_atomically(folder / "left_out.jsonl", _lines({"id": id_, "reason": why} for id_, why in reasons.items()))
    counts = {
        "steps": len(left_out) + len(candidates),
        **{f"left out: {reason}": count for reason, count in sorted(Counter(reasons.values()).items())},
        "selected": len(chosen),
    }
    return GuiSelection(len(chosen), counts, Counter(one.kind for one in chosen))


async def _tried(
    config: GuiSelectConfig, candidates: Sequence[Candidate], judge: Judge, folder: Path, tell: Tell
) -> dict[str, Tried]:
    """What the untouched model made of each step, by its id."""
    reward = config.reward()
    asked = {
        one.id: messages(one.row, one.size, config.actions, config.think, "point", config.frame) for one in candidates
    }
    sha = content_sha(judge_sha(config.judge), reward.model_dump(), asked)
    log = StageLog(folder / "answers.jsonl", Tried, sha)
    done = {line.id for line in log.lines if line.outcome != "failed"}
    room = asyncio.Semaphore(_ENCODED)

    async def work(one: Candidate) -> None:
        try:
            async with room:
                answer = await judge.ask(Question(with_pictures(asked[one.id]), TEMPLATE))
        except JudgeFailure as failure:
            told = f"judge {judge.name}: {failure}"
            log.append([Tried(config_sha=sha, id=one.id, outcome="failed", problem=told)])
            return
        thought, said = thought_and_answer(answer)
        outcome: Literal["right", "wrong"] = "right" if _right(reward, one, said) else "wrong"
        log.append([Tried(config_sha=sha, id=one.id, outcome=outcome, text=said, thought=thought)])

    await each("steps", [one for one in candidates if one.id not in done], work, tell)
    latest = {line.id: line for line in log.lines}
    if candidates and all(latest[one.id].outcome == "failed" for one in candidates):
        first = latest[candidates[0].id].problem
        raise JudgeError(f"none of {len(candidates)} questions was answered; the first: {first}")
    return latest


def with_pictures(asked: Sequence[Message]) -> tuple[Message, ...]:
    """A question's messages with its pictures in them, as a server takes them.

    Raises:
        DataError: A picture cannot be read.
    """
    return tuple({"role": one["role"], "content": _sent(one["content"])} for one in asked)


def _sent(content: str | Sequence[ContentPart]) -> str | list[ContentPart]:
    if isinstance(content, str):
        return content
    return [image_url(part) if part["type"] == "image" else part for part in content]


def diverse(
    wrong: Sequence[Candidate],
    lengths: Mapping[str, int],
    keep: int | None,
    at_least: int,
    per_image: int | None,
    reasons: dict[str, str],
) -> list[Candidate]:
    """The steps to keep, in their order: some of each kind, then those that were thought about longest.

    Args:
        wrong: Steps that were answered wrongly.
        lengths: How long each was thought about, by id.
        keep: So many; None: all.
        at_least: Of each kind, where there are any and `keep` allows.
        per_image: Of one screenshot; None: all.
        reasons: Why the others are left out is added here, by id.
    """
    ranked = sorted(wrong, key=lambda one: -lengths[one.id])
    images: Counter[str] = Counter()
    free: list[Candidate] = []
    for one in ranked:
        image = json.dumps(one.row.image)
        if per_image is not None and images[image] == per_image:
            reasons[one.id] = "enough of its screenshot"
            continue
        images[image] += 1
        free.append(one)
    kinds: Counter[str] = Counter()
    turns: dict[str, int] = {}
    for one in free:
        turns[one.id] = kinds[one.kind]
        kinds[one.kind] += 1
    # One of every kind before two of any; past `at_least` only the length counts.
    chosen = {one.id for one in sorted(free, key=lambda one: min(turns[one.id], at_least))[:keep]}
    reasons.update({one.id: "thought about more briefly" for one in free if one.id not in chosen})
    return [one for one in wrong if one.id in chosen]


def _right(reward: GuiConfig, one: Candidate, said: str) -> bool:
    target = reward.target({"action": one.row.action, "bbox": one.row.bbox, "image_size": list(one.size)})
    predicted = read_action(said)
    return predicted.action == target.action and (target.box is None or target.hit_by(predicted, "point"))


def _written(one: Candidate, length: int, folder: Path) -> dict[str, Any]:
    """A step in UI-R1's form; a picture out of a data set becomes a file."""
    image = one.row.image
    if not isinstance(image, str):
        path = folder / "images" / f"{content_sha(image)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            open_image(image).save(path)
        image = str(path)
    target = {"action": one.row.action} if one.row.bbox is None else {"bbox": one.row.bbox}
    return {
        "id": one.id,
        "img_filename": str(Path(image).resolve()),
        "instruction": one.row.instruction,
        **target,
        "element": one.row.element,
        "thought_characters": length,
    }


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)
