"""Jigsaw puzzles: how much of an answer is right, and whether it is written as asked (Jigsaw-R1, section 3)."""

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import Field

from rlrules.rewards.base import Context, PointwiseScorer, Resources, ScorerConfig, unpacked
from rlrules.rewards.boxes import iou
from rlrules.rewards.jigsaw_answers import (
    KINDS,
    LETTERS,
    Answer,
    Question,
    connection_score,
    patch_score,
    read_answer,
)
from rlrules.types import Completion, Score

Accuracy = Literal["fraction", "exact", "connections"]
HIT = 0.5
"""A box is right past this overlap."""

_QUESTIONS = ", ".join(get_args(Question))


class JigsawConfig(ScorerConfig):
    """accuracy_weight * accuracy + format_weight * format; an answer that cannot be read has neither.

    Two rewards, one of either part, under `objective: {type: weighted_sum, normalize: group}` and
    `training.scale_rewards: none` are the released code's normalisation of each part on its own.
    """

    type: Literal["jigsaw"] = "jigsaw"
    think: bool = Field(True, description="<think>…</think><answer>…</answer> is asked for; false: the bare answer.")
    accuracy: Accuracy = Field(
        "fraction",
        description="Of a whole arrangement: share of right places, all or nothing, or share of right neighbours. Of "
        "a box: its overlap, or with `exact` whether that exceeds one half.",
    )
    accuracy_weight: float = Field(1.0, ge=0, description="Of the accuracy; 0: the format alone is rewarded.")
    format_weight: float = Field(0.5, ge=0, description="Of the format, beside accuracy.")

    def columns(self) -> tuple[str, ...]:
        """The question, the grid and the right answer."""
        return ("question", "m", "n", "answer")

    def row_problem(self, row: Mapping[str, Any]) -> str:
        """Why a row's question or its right answer is not sound, or its prompt asks for another form."""
        if row.get("think", self.think) != self.think:
            return f"`think` is {row['think']}: its prompt does not ask for the form that the reward's `think` expects"
        return row_problem(row)

    def build(self, resources: Resources) -> "JigsawScorer":
        """Make the scorer."""
        return JigsawScorer(self)


class JigsawScorer(PointwiseScorer):
    """See `JigsawConfig`."""

    def __init__(self, config: JigsawConfig) -> None:
        self._config = config

    async def score_one(self, context: Context, completion: Completion) -> Score:
        """Score one completion against its row."""
        row, config = context.row, self._config
        found = read(completion.text, row, config.think)
        accuracy, right = judged(found, row, config.accuracy)
        formed = float(found.formed)
        value = found.value if not isinstance(found.value, tuple) else list(found.value)
        parts = {"accuracy": accuracy, "format": formed, "correct": float(right)}
        unread = found.value is None
        return Score(
            config.accuracy_weight * accuracy + config.format_weight * formed,
            "malformed" if unread else "ok",
            found.problem if unread else "",
            metrics=parts,
            details={**parts, "answer": value} | ({"problem": found.problem} if found.problem else {}),
        )


def read(text: str, row: Mapping[str, Any], think: bool) -> Answer:
    """What a completion answers to a row's question."""
    return read_answer(text, row["question"], row["m"] * row["n"], option_count(row), think)


def judged(found: Answer, row: Mapping[str, Any], accuracy: Accuracy = "fraction") -> tuple[float, bool]:
    """How much of an answer is right, and whether all of it is.

    Args:
        found: The answer.
        row: Its question; nothing of it is changed.
        accuracy: How a whole arrangement, or a box, is counted.
    """
    right = right_answer(row)
    if found.value is None:
        return 0.0, False
    kind = KINDS[row["question"]]
    if kind == "grid":
        assert isinstance(found.value, tuple)
        whole = found.value == tuple(right)
        if accuracy == "connections":
            return connection_score(found.value, right, row["m"], row["n"]), whole
        return (float(whole) if accuracy == "exact" else patch_score(found.value, right)), whole
    if kind == "box":
        assert isinstance(found.value, tuple)
        width, height = unpacked(row["image_size"])
        overlap = iou(found.value, [part * side for part, side in zip(right, (width, height) * 2, strict=True)])
        hit = overlap > HIT
        return (float(hit) if accuracy == "exact" else overlap), hit
    same = found.value == right
    return float(same), same


def right_answer(row: Mapping[str, Any]) -> Any:
    """A row's right answer: indices, a letter, an index or a box, as themselves or as JSON.

    A table of questions of several types has text in this column: no other type holds them all.
    """
    return row["answer"] if KINDS[row["question"]] == "letter" else unpacked(row["answer"])


def option_count(row: Mapping[str, Any]) -> int:
    """How many letters a row offers: as many as `options`, or as its question has without that column."""
    options = unpacked(row.get("options"))
    if options is not None:
        return int(options) if isinstance(options, int) else len(options)
    if row["question"] == "multiple":
        return 4
    return 2 if min(row["m"], row["n"]) == 1 else 8


def row_problem(row: Mapping[str, Any]) -> str:
    """Why a row is no jigsaw question with its right answer, in words; empty where it is."""
    question = row["question"]
    if question not in KINDS:
        return f"`question` is {question!r}; known are {_QUESTIONS}"
    right = right_answer(row)
    for side in ("m", "n"):
        if type(row[side]) is not int or row[side] < 1:
            return f"`{side}` is {row[side]!r}, no count of pieces"
    size, kind = row["m"] * row["n"], KINDS[question]
    if kind == "grid":
        sound = isinstance(right, list | tuple) and all(type(index) is int for index in right)
        return (
            "" if sound and sorted(right) == list(range(1, size + 1)) else f"`answer` is not each of 1 to {size} once"
        )
    if kind == "letter":
        return _letter_problem(row)
    if kind == "digit":
        return "" if type(right) is int and 1 <= right <= size else f"`answer` is no index from 1 to {size}"
    return _box_problem(row)


def _letter_problem(row: Mapping[str, Any]) -> str:
    options = unpacked(row.get("options"))
    counted = options is None or (type(options) is int) or isinstance(options, list | tuple | str)
    if not counted or not 2 <= option_count(row) <= len(LETTERS):
        return f"`options` is {options!r}: expected the options, or how many there are, from 2 to {len(LETTERS)}"
    offered = list(LETTERS[: option_count(row)])
    return "" if row["answer"] in offered else f"`answer` is {row['answer']!r}, not one of {', '.join(offered)}"


def _box_problem(row: Mapping[str, Any]) -> str:
    right, size = right_answer(row), unpacked(row.get("image_size"))
    if (
        not _numbers(right, 4)
        or not all(0 <= part <= 1 for part in right)
        or right[0] >= right[2]
        or right[1] >= right[3]
    ):
        return "`answer` is no box {left, top, right, bottom} in shares of the image, from 0 to 1"
    if not _numbers(size, 2) or not all(side > 0 for side in size or ()):
        return "`image_size` is not the width and height of the image as the model sees it"
    return ""


def _numbers(value: Any, count: int) -> bool:
    if not isinstance(value, list | tuple) or len(value) != count:
        return False
    return all(type(part) in (int, float) and math.isfinite(part) for part in value)
