"""An answer in tags after a thought in tags: what stands in which, or what is wrong with the form."""

import re
from dataclasses import dataclass

from rlrules.judges.verdict import THINK_CLOSE, THINK_OPEN

ANSWER = re.compile(r"<answer>((?:(?!</?answer>).)*)</answer>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Tagged:
    """A completion taken apart.

    Attributes:
        thought: What stands between the think tags, stripped.
        answer: What the last answer tag after the thought holds, stripped; empty where the form is broken.
        problem: What is wrong with the form, in words; empty where nothing is.
    """

    thought: str = ""
    answer: str = ""
    problem: str = ""


def read_tagged(text: str) -> Tagged:
    """Take `<think>…</think>…<answer>…</answer>` apart.

    The thought comes first, there is one, and what its text says of answers does not count: the answer is the last
    whole tag behind it, and is not empty. What else stands behind the thought is free.
    """
    opened, closed = text.count(THINK_OPEN), text.count(THINK_CLOSE)
    if not text.lstrip().startswith(THINK_OPEN):
        return Tagged(problem=f"does not begin with {THINK_OPEN}")
    if opened != 1 or closed != 1:
        return Tagged(problem=f"not one {THINK_OPEN}…{THINK_CLOSE}: {opened} opened, {closed} closed")
    thought, _, after = text.partition(THINK_OPEN)[2].partition(THINK_CLOSE)
    answers = ANSWER.findall(after)
    if not answers:
        return Tagged(thought.strip(), problem=f"no <answer>…</answer> after {THINK_CLOSE}")
    answer = answers[-1].strip()
    return Tagged(thought.strip(), answer, "" if answer else "an empty answer")
