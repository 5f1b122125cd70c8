"""Answers to jigsaw questions: what they say, how much of it is right, whether they are written as asked (Jigsaw-R1).

Rewards and evaluation read answers through this one file. Nothing in it raises, whatever a policy writes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["grid", "letter", "digit", "box"]
Question = Literal["full", "pair", "multiple", "single", "box"]

KINDS: dict[Question, Kind] = {
    "full": "grid",
    "pair": "letter",
    "multiple": "letter",
    "single": "digit",
    "box": "box",
}
"""What an answer to each question is made of."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_SECTIONS = re.compile(r"<think>(.*)</think>\s*<answer>(.*)</answer>", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_BETWEEN = re.compile(r"[\s,;`|()\[\]{}]+")
# Seven digits are no index and no coordinate; a number of thousands of them is refused by int().
_NUMBER = re.compile(r"[0-9]{1,6}")
_LETTER = re.compile(r"(?:\(([A-Z])\)|([A-Z]))\.?")
_LEADING = re.compile(r"\(([A-Z])\)")
_LONE_LETTER = re.compile(r"(?<![\w'])[A-Z](?![\w'])")
_LONE_NUMBER = re.compile(r"(?<![\w.])[0-9]{1,6}(?!\w|\.\d)")
_DIGIT = re.compile(r"(?:\(([0-9]{1,6})\)|([0-9]{1,6}))\.?")
_ANY_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a completion answers.

    Attributes:
        value: Indices, a letter, an index or a box; None where it cannot be told.
        formed: Whether the whole completion is written as asked.
        problem: Why it is not, in one line.
    """

    value: tuple[int, ...] | str | int | None
    formed: bool
    problem: str = ""


def answer_section(text: str, think: bool) -> tuple[str | None, str]:
    """The part of a completion that holds its answer, and what is wrong with the sections.

    With thoughts: one thought, then one answer, each in its tags, and nothing else; the answer is the first that
    follows the last thought, and without tags there is none. Without: all of it, and no tags at all.

    Args:
        text: The completion.
        think: Whether a thought is asked for.
    """
    text = text.strip()
    if not think:
        return text, "tags where none are asked for" if any(tag in text for tag in _TAGS) else ""
    found = _ANSWER.search(text, text.rfind(_TAGS[1]) + len(_TAGS[1])) if _TAGS[1] in text else None
    if found is None:
        return None, "no answer in answer tags after a thought"
    once = all(text.count(tag) == 1 for tag in _TAGS)
    problem = "" if once and _SECTIONS.fullmatch(text) else "not one thought and one answer, each in its tags"
    return found[1].strip(), problem


def read_answer(text: str, question: Question, size: int, options: int, think: bool) -> Answer:
    """What a completion answers, and whether it is written as asked.

    Args:
        text: The completion.
        question: The question's type.
        size: Pieces of the puzzle.
        options: How many letters are offered.
        think: Whether a thought is asked for.
    """
    section, problem = answer_section(text, think)
    if section is None:
        return Answer(None, False, problem)
    kind = KINDS[question]
    if kind == "grid":
        found = _read_grid(section, size)
    elif kind == "letter":
        found = _read_letter(section, LETTERS[:options])
    elif kind == "digit":
        found = _read_digit(section, size)
    else:
        found = _read_box(section)
    return Answer(found.value, False, problem) if problem else found


def read_indices(section: str, size: int) -> tuple[int, ...] | None:
    """The `size` indices from 1 to `size` that a text is made of, with nothing between but separators."""
    parts = [part for part in _BETWEEN.split(section) if part]
    if len(parts) != size or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    found = tuple(int(part) for part in parts)
    return found if all(1 <= index <= size for index in found) else None


def patch_score(found: Sequence[int], right: Sequence[int]) -> float:
    """Share of places that hold the right piece; 0 where the lengths differ."""
    if len(found) != len(right):
        return 0.0
    return sum(one == other for one, other in zip(found, right, strict=True)) / len(right)


def connection_score(found: Sequence[int], right: Sequence[int], rows: int, columns: int) -> float:
    """Share of neighbours, side by side or one above the other, that stay so; 0 where the lengths differ.

    A single piece has no neighbours to lose: 1.

    Both say which piece is where: an arrangement that says where each piece is must be inverted first.
    """
    if len(found) != len(right):
        return 0.0
    wanted, got = _neighbours(right, rows, columns), _neighbours(found, rows, columns)
    return len(wanted & got) / len(wanted) if wanted else 1.0


def _read_grid(section: str, size: int) -> Answer:
    found = read_indices(section, size)
    if found is None:
        return Answer(None, False, f"not {size} numbers from 1 to {size}, and nothing else")
    if len(set(found)) < size:
        return Answer(found, False, "a piece stands twice")
    return Answer(found, True)


def _read_letter(section: str, offered: str) -> Answer:
    if (strict := _LETTER.fullmatch(section)) is not None:
        letter = strict[1] or strict[2]
        if letter in offered:
            return Answer(letter, True)
        return Answer(None, False, f"{letter} is not offered")
    problem = "more than a letter"
    if (leading := _LEADING.match(section)) is not None:
        return Answer(leading[1] if leading[1] in offered else None, False, problem)
    lone = {letter for letter in _LONE_LETTER.findall(section) if letter in offered}
    if len(lone) != 1:
        return Answer(None, False, "no one letter of those offered")
    return Answer(lone.pop(), False, problem)


def _read_digit(section: str, size: int) -> Answer:
    if (strict := _DIGIT.fullmatch(section)) is not None:
        index = int(strict[1] or strict[2])
        if 1 <= index <= size:
            return Answer(index, True)
        return Answer(None, False, f"{index} is no index from 1 to {size}")
    lone = {int(number) for number in _LONE_NUMBER.findall(section)}
    if len(lone) != 1:
        return Answer(None, False, "no one number")
    return Answer(lone.pop(), False, "more than a number")


def _read_box(section: str) -> Answer:
    parts = [part for part in _BETWEEN.split(section) if part]
    if len(parts) == 4 and all(_NUMBER.fullmatch(part) for part in parts):
        box = tuple(int(part) for part in parts)
        sound = box[0] < box[2] and box[1] < box[3]
        return Answer(box, sound, "" if sound else "its right or bottom edge does not follow its left or top")
    parts = _ANY_NUMBER.findall(section)
    if len(parts) != 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        return Answer(None, False, "no one box of four whole numbers")
    return Answer(tuple(int(part) for part in parts), False, "more than a box")


def _neighbours(pieces: Sequence[int], rows: int, columns: int) -> set[tuple[str, int, int]]:
    beside = {
        ("beside", pieces[r * columns + c], pieces[r * columns + c + 1])
        for r in range(rows)
        for c in range(columns - 1)
    }
    above = {
        ("above", pieces[r * columns + c], pieces[(r + 1) * columns + c])
        for r in range(rows - 1)
        for c in range(columns)
    }
    return beside | above
