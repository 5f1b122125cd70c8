"""Asking a judge how good the reasoning before an answer is (SophiaVL-R1, section 3.2): one grade from 0 to 1."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from rlrules.judges.base import Answer, JudgeFailure, Question
from rlrules.judges.fit import ask_fitting
from rlrules.judges.images import image_parts
from rlrules.judges.judge import Judge
from rlrules.judges.templates import conversation, fenced, render
from rlrules.judges.verdict import Outcome, after_thought, probabilities_on_the_way
from rlrules.types import ContentPart, Message

LEVELS: tuple[str, ...] = tuple(f"{tenths / 10:.1f}" for tenths in range(11))
GRADE_TOKENS = 16
# What a judge might have begun otherwise is asked for from this probability on.
_WORTH_ASKING = 0.02
_TAG = re.compile(r"<answer>((?:(?!</?answer>).)*)</answer>", re.DOTALL)
_GRADE = re.compile(r"([0-9]*\.?[0-9]+)(?:\s*/\s*1(?:\.0+)?)?")


@dataclass(frozen=True, slots=True)
class Graded:
    """What a judge made of a reasoning.

    Attributes:
        outcome: As of verdicts.
        value: The grade, 0 to 1; NaN unless the outcome is "value".
        said: The grade that was written.
        probabilities: Of each level, where they are known; the grade is then their mean.
        reason: Why there is none, in one line.
        cut: Whether the reasoning lost its middle to fit the judge's context.
    """

    outcome: Outcome
    value: float = math.nan
    said: float = math.nan
    probabilities: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    cut: bool = False


def level_of(value: float) -> str:
    """The level next to a grade."""
    return LEVELS[math.floor(value * 10 + 0.5)]


def thinking_messages(
    prompt: Sequence[Message], images: Sequence[ContentPart], thought: str
) -> tuple[tuple[Message, ...], str]:
    """The chat that asks a judge to grade a reasoning.

    What all completions of a prompt share comes first, their reasoning last. The prompt's system message is not part
    of the question: it says how to answer.

    Args:
        prompt: What was answered.
        images: Its images, as content parts of whoever is to read them.
        thought: The reasoning, without its tags.

    Returns:
        A system and a user message, and the templates' versions for the cache key.
    """
    system, system_version = render("thinking_system", levels=LEVELS)
    text, version = render("thinking", question=_question(prompt), thought=fenced(thought))
    content = [*images, {"type": "text", "text": text.rstrip()}] if images else text.rstrip()
    messages: tuple[Message, ...] = ({"role": "system", "content": system}, {"role": "user", "content": content})
    return messages, f"{system_version}+{version}"


def _question(prompt: Sequence[Message]) -> str:
    turns = tuple(message for message in prompt if message["role"] != "system")
    if len(turns) != 1:
        return conversation(turns)
    # Of one turn there is no need to say whose it is; its images stand before the text.
    content = turns[0]["content"]
    texts = [content] if isinstance(content, str) else [str(part["text"]) for part in content if "text" in part]
    return fenced("\n".join(texts))


def read_grade(text: str) -> float | None:
    """The grade in the last answer tag, or that the whole text is; None where there is none between 0 and 1."""
    said = after_thought(text)
    tags = _TAG.findall(said)
    found = _GRADE.fullmatch((tags[-1] if tags else said).strip())
    value = float(found[1]) if found else math.nan
    return value if 0.0 <= value <= 1.0 else None


async def grade_thinking(
    judge: Judge, prompt: Sequence[Message], images: Sequence[ContentPart], thought: str
) -> Graded:
    """Ask for one grade; a failed judge is a "failed" one, never an exception or a number.

    Args:
        judge: Who grades.
        prompt: What was answered.
        images: Its images, as the judge takes them.
        thought: The reasoning, without its tags.
    """

    async def ask(shown: str) -> Graded:
        messages, version = thinking_messages(prompt, images, shown)
        # Where it is not held to a grade, a judge may think first.
        bound = GRADE_TOKENS if judge.config.one_token_labels() else None
        question = Question(messages, version, labels=LEVELS, max_tokens=bound)
        return await _graded(judge, question, await judge.ask(question))

    try:
        graded, shown = await ask_fitting(ask, thought)
    except JudgeFailure as failure:
        return Graded("failed", reason=f"judge {judge.name}: {failure}")
    return replace(graded, cut=shown != thought)


async def _graded(judge: Judge, question: Question, answer: Answer) -> Graded:
    said = read_grade(answer.text)
    if said is None:
        shown = answer.text[-80:].replace("\n", " ")
        if answer.finish_reason == "length":
            return Graded("truncated", reason=f"the judge was cut off before a grade: {shown!r}")
        return Graded("unparsed", reason=f"{shown!r} is no grade from 0 to 1")
    shares, begun = probabilities_on_the_way(answer, LEVELS)
    for beginning, share in begun.items() if shares else ():
        behind = await _behind(judge, question, beginning) if share >= _WORTH_ASKING else {}
        for level, part in behind.items():
            shares[level] = shares.get(level, 0.0) + share * part
    total = sum(shares.values())
    if not total:
        return Graded("value", said, said)
    known = {level: shares.get(level, 0.0) / total for level in LEVELS}
    return Graded("value", sum(float(level) * share for level, share in known.items()), said, known)


async def _behind(judge: Judge, question: Question, beginning: str) -> dict[str, float]:
    """How a judge would have gone on with what it might have begun; nothing where it cannot be told."""
    labels = tuple(level.removeprefix(beginning) for level in LEVELS if level.startswith(beginning))
    turn: Message = {"role": "assistant", "content": beginning}
    asked = replace(question, messages=(*question.messages, turn), labels=labels, temperature=0.0)
    try:
        shares, begun = probabilities_on_the_way(await judge.ask(asked), labels)
    except JudgeFailure:
        return {}
    return {} if begun else {beginning + label: share for label, share in shares.items()}


def images_of(prompt: Sequence[Message]) -> list[ContentPart]:
    """The prompt's images, its system message left out."""
    return image_parts([message for message in prompt if message["role"] != "system"])
