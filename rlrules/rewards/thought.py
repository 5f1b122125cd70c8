"""What of a completion is its thought and what its answer."""

import re
from dataclasses import dataclass

from rlrules.judges.verdict import THINK_CLOSE, THINK_OPEN

MIN_THOUGHT = 16
"""Fewest tokens of a thought that is required: an empty one would be a shortcut."""

# A word, a mark or a run of the same marks, a character of a script without spaces: no tokenizer is at hand.
_CJK = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_TOKEN = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+|([^\w\s])\1*")


@dataclass(frozen=True, slots=True)
class Parts:
    """A completion taken apart.

    Attributes:
        thought: Without its tags; empty where there is none.
        answer: What stands behind the last closing tag, without blanks around it; a completion without one as it is.
        unclosed: Whether a thought is open at the end, so that there is no answer.
    """

    thought: str
    answer: str
    unclosed: bool


def parts_of(text: str) -> Parts:
    """Take a completion apart; it may begin inside its thought, as it does behind a template that opens it."""
    before, closed, after = text.rpartition(THINK_CLOSE)
    if THINK_OPEN in after:
        return Parts(after.rpartition(THINK_OPEN)[2].strip(), "", True)
    thought = before.partition(THINK_OPEN)[2] if THINK_OPEN in before else before
    return Parts(thought.strip(), after.strip(), False) if closed else Parts("", text, False)


def joined(thought: str, answer: str) -> str:
    """A completion from its parts; the answer alone where there is no thought."""
    thought = thought.strip()
    return f"{THINK_OPEN}\n{thought}\n{THINK_CLOSE}\n\n{answer.strip()}" if thought else answer


def thought_tokens(thought: str) -> int:
    """How long a thought is: words, marks (a run of one is one), single characters of Chinese, Japanese and Korean."""
    return sum(1 for _ in _TOKEN.finditer(thought))


def thought_problem(parts: Parts, required: bool) -> str:
    """Why a completion's answer is not looked at, in words; empty where it is."""
    if parts.unclosed:
        return "the thought does not end"
    if not required:
        return ""
    if not parts.thought:
        return "there is no thought"
    length = thought_tokens(parts.thought)
    return f"the thought has {length} of at least {MIN_THOUGHT} tokens" if length < MIN_THOUGHT else ""
