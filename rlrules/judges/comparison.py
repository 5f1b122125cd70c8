"""Which of two replies is better: the chat that asks it, and what an answer says (Think-RM, section 2).

Verdicts have one sign everywhere: negative means that A, the reply shown first, is better.
"""

import re
from collections.abc import Sequence
from typing import Literal

from rlrules.judges.base import Answer
from rlrules.judges.templates import conversation, fenced, render
from rlrules.judges.verdict import THINK_CLOSE, THINK_OPEN, Verdict, after_thought, parse_label
from rlrules.types import Message

Kind = Literal["binary", "multiclass"]

LABELS: dict[Kind, tuple[str, ...]] = {
    "binary": ("A", "B"),
    "multiclass": ("-3", "-2", "-1", "1", "2", "3"),
}
"""What a verdict can be, from "A is better" to "B is better"; there is none for a tie."""

ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
UNCLOSED, OPENING = ANSWER_OPEN[:-1], ANSWER_OPEN[-1]
# A tag that opens again before it closes is only read from where it opens last.
_ANSWER = re.compile(rf"{ANSWER_OPEN}((?:(?!{ANSWER_OPEN}).)*?){ANSWER_CLOSE}", re.DOTALL | re.IGNORECASE)
_MINUS = re.compile("[\N{MINUS SIGN}\N{EN DASH}\N{FULLWIDTH HYPHEN-MINUS}\N{SMALL HYPHEN-MINUS}]")
_QUOTES = "‘’‚“”„«»‹›「」『』【】〈〉《》"
_NAMED = re.compile(r"assistant\s+", re.IGNORECASE)


def comparison_messages(
    prompt: Sequence[Message], first: str, second: str, kind: Kind, think: bool = True
) -> tuple[tuple[Message, ...], str]:
    """The chat that asks a judge to compare two replies.

    What all comparisons of a group share stands first, then the reply shown as A, then the one shown as B, after
    which nothing comes.

    Args:
        prompt: What both reply to.
        first: The reply shown as A.
        second: The reply shown as B.
        kind: Which is better, or also by how much.
        think: Reason first, and answer in a tag; otherwise answer by the bare label.

    Returns:
        A system and a user message, and the templates' versions for the cache key.
    """
    system, system_version = render("comparison_system", verdict=kind, think=think)
    shown = {"first": fenced(first.rstrip()), "second": fenced(second.rstrip())}
    user, version = render("comparison", conversation=conversation(tuple(prompt)), **shown)
    messages: tuple[Message, ...] = ({"role": "system", "content": system}, {"role": "user", "content": user.rstrip()})
    return messages, f"{system_version}+{version}"


def read_comparison(answer: Answer, kind: Kind) -> Verdict:
    """The verdict in the last answer tag after the thought.

    Without the end of a thought there is none: what stands in an unfinished thought was not decided on.
    """
    text = answer.text
    if THINK_CLOSE not in text and not answer.reasoning:
        return Verdict("truncated", raw=text, reason=f"the thought has no end: {_shown(text[-80:])}")
    said = after_thought(text)
    if THINK_OPEN in said:
        return Verdict("truncated", raw=text, reason=f"another thought was begun and has no end: {_shown(said[-80:])}")
    tags = _ANSWER.findall(said)
    if not tags:
        cut = answer.finish_reason == "length"
        told = f"no {ANSWER_OPEN} tag after the thought: {_shown(said[:80])}"
        return Verdict("truncated" if cut else "unparsed", raw=text, reason=told)
    label = parse_label(_plain(tags[-1]), LABELS[kind])
    if label is None:
        reason = f"{_shown(tags[-1][:80])} is none of {', '.join(LABELS[kind])}"
        return Verdict("unparsed", raw=text, reason=reason)
    return Verdict("value", label, {known: float(known == label) for known in LABELS[kind]}, text)


def label_behind_tag(text: str) -> str:
    """The label in what a judge wrote behind an answer tag that was left open for it.

    A server that is not held to the labels closes the tag and may go on, leaves out what opens them, or begins its
    turn anew.
    """
    turn = after_thought(text).partition(ANSWER_CLOSE)[0]
    return turn.rpartition(ANSWER_OPEN)[2].strip().removeprefix(OPENING)


def strength(label: str) -> float:
    """By how much B is better: -1 or +1 for a letter, the number itself for a number."""
    return {"A": -1.0, "B": 1.0}.get(label) or float(label)


def _plain(content: str) -> str:
    bare = _MINUS.sub("-", content).strip().strip(_QUOTES)
    return _NAMED.sub("", bare, count=1).removeprefix("+")


def _shown(text: str) -> str:
    return repr(" ".join(text.split()))
