"""Asking a model for JSON: tolerant of what surrounds it, strict about what it is, with repairs."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

from rlrules.judges import Judge, JudgeFailure, Question
from rlrules.judges.templates import inert, render
from rlrules.judges.verdict import after_thought
from rlrules.types import Message

REPAIRS = 2
T = TypeVar("T")


class Unreadable(ValueError):
    """A reply that does not say what was asked for.

    Args:
        problem: What is wrong, in one line that the model is shown.
        salvage: What can be taken from it nevertheless, if it stays the last reply.
    """

    def __init__(self, problem: str, salvage: object = None) -> None:
        super().__init__(problem)
        self.salvage = salvage


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """What came of one request for JSON.

    Attributes:
        status: "ok"; "repaired": read after a repair; "salvaged": in part, all repairs spent; "failed": not
            readable; "unanswered": the judge failed, another run may ask again.
        value: What was read; None for the last two.
        raw: The last reply as it came.
        problem: What was wrong with the last reply that could not be read.
        asked: Requests made.
    """

    status: Literal["ok", "repaired", "salvaged", "failed", "unanswered"]
    value: T | None
    raw: str = ""
    problem: str = ""
    asked: int = 1


async def ask_json(judge: Judge, question: Question, read: Callable[[str], T]) -> Reply[T]:
    """Ask until the reply can be read, showing the model what was wrong, `REPAIRS` times at most.

    Args:
        judge: Whom to ask.
        question: The first request.
        read: Turns a reply into a value or raises `Unreadable`.
    """
    asked, raw, problem = question, "", ""
    salvage: Any = None
    for attempt in range(REPAIRS + 1):
        try:
            answer = await judge.ask(asked)
        except JudgeFailure as failure:
            if attempt and failure.kind in ("overflow", "rejected"):
                break  # The request itself was answered; only its repair does not fit.
            return Reply("unanswered", None, raw, f"judge {judge.name}: {failure}", attempt + 1)
        raw = answer.text
        try:
            value = read(after_thought(raw))
            return Reply("repaired" if attempt else "ok", value, raw, problem, attempt + 1)
        except Unreadable as error:
            cut = " (the reply was cut off at the length limit)" if answer.finish_reason == "length" else ""
            problem, salvage = f"{error}{cut}", error.salvage
        asked = _repair(question, raw, problem, attempt + 1)
    if salvage is not None:
        return Reply("salvaged", salvage, raw, problem, attempt + 1)
    return Reply("failed", None, raw, problem, attempt + 1)


def find_json(text: str, opening: Literal["[", "{"]) -> Any:
    """The longest JSON array or object in `text`; code fences and prose around it do not matter.

    Returns:
        Its value, or None: there is none, or one begins and does not end well.
    """
    decoder = json.JSONDecoder()
    longest, value = 0, None
    at = text.find(opening)
    while at >= 0:
        try:
            found, end = decoder.raw_decode(text, at)
        except ValueError:
            # Brackets in prose are passed over; of an answer that breaks off, no inner part may stand for the whole.
            if text[at + 1 :].lstrip()[:1] in ('"', "[", "{"):
                return None
            end = at + 1
        else:
            if end - at > longest:
                longest, value = end - at, found
        at = text.find(opening, end)
    return value


def _repair(question: Question, raw: str, problem: str, attempt: int) -> Question:
    content, version = render("repair", problem=inert(problem), attempt=attempt)
    shown = inert(after_thought(raw)) or "(an empty reply)"
    turns: tuple[Message, ...] = ({"role": "assistant", "content": shown}, {"role": "user", "content": content})
    template = f"{question.template}+{version}"
    return replace(question, messages=(*question.messages, *turns), template=template)
