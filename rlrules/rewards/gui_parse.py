"""What an answer of a GUI agent says: the form of its sections, and the action in it (UI-R1)."""

import ast
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from rlrules.judges.verdict import THINK_CLOSE
from rlrules.rewards.boxes import Box
from rlrules.rewards.gui_frames import numbers

ActionName = Literal["open_app", "click", "scroll", "input_text", "navigate_back"]
ACTIONS: tuple[ActionName, ...] = get_args(ActionName)
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"

Problem = Literal["", "no_answer", "bad_payload", "unknown_action"]

_TAG = re.compile(r"</?(?:think|answer)>")
_TAGS = {
    True: ["<think>", "</think>", ANSWER_OPEN, ANSWER_CLOSE],
    False: [ANSWER_OPEN, ANSWER_CLOSE],
}
# With each tag there once, what stands between them is all that is left to tell.
_FORMS = {
    True: re.compile(r"\s*<think>.*</think>\s*<answer>.*</answer>\s*", re.DOTALL),
    False: re.compile(r"\s*<answer>.*</answer>\s*", re.DOTALL),
}
_FENCE = re.compile(r"```\w*\s(.*)```", re.DOTALL)
_OTHERWISE = re.compile(r"[\\\ud800-\udfff]|true|false|null|NaN|Infinity")
_EXPLAINED = {
    "no_answer": "no <answer>…</answer> after the thought",
    "bad_payload": "the answer is no list of one action, neither as JSON nor as a Python literal",
    "unknown_action": f"the action is none of {', '.join(ACTIONS)}",
}


@dataclass(frozen=True, slots=True)
class Predicted:
    """An action that a model wrote.

    Attributes:
        action: One of `ACTIONS`; None where there is none to be read.
        point: Its `coordinate`, two numbers from 0 up; None where it has no such.
        box: Its `bbox`, {left, top, right, bottom} from 0 up with an area; None where it has no such.
        arguments: All that it says, as written.
        problem: Why there is no action.
    """

    action: str | None
    point: tuple[float, float] | None = None
    box: Box | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    problem: Problem = ""

    @property
    def explained(self) -> str:
        """The problem in words."""
        return _EXPLAINED.get(self.problem, "")


def keeps_format(text: str, think: bool) -> bool:
    """Whether an answer is its sections and nothing else but blanks, each tag standing once.

    Args:
        text: The whole completion.
        think: A thought comes first; otherwise there may be no think tag.
    """
    return _TAG.findall(text) == _TAGS[think] and _FORMS[think].fullmatch(text) is not None


def read_action(text: str) -> Predicted:
    """The one action in the first answer tag after the last closing think tag."""
    rest = text.rpartition(THINK_CLOSE)[2]
    _, opened, rest = rest.partition(ANSWER_OPEN)
    payload, closed, _ = rest.partition(ANSWER_CLOSE)
    if not opened or not closed:
        return Predicted(None, problem="no_answer")
    payload = payload.strip()
    if payload.startswith("```") and (fenced := _FENCE.fullmatch(payload)):
        payload = fenced[1].strip()
    value = _value(payload)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        return Predicted(None, problem="bad_payload")
    action = value.get("action")
    if not isinstance(action, str) or action not in ACTIONS:
        return Predicted(None, arguments=value, problem="unknown_action")
    return Predicted(action, _point(value.get("coordinate")), _box(value.get("bbox")), value)


def _value(payload: str) -> Any:
    """A payload as JSON or as a Python literal; None where it is neither."""
    if '"' in payload:
        try:
            return json.loads(payload)
        except (ValueError, RecursionError):
            return _literal(payload)
    # Without double quotes it is no JSON object. Most literals differ from JSON by their quotes alone, and as JSON they
    # are read in a tenth of the time; what that would read in another way is `_OTHERWISE`.
    if not _OTHERWISE.search(payload):
        try:
            return json.loads(payload.replace("'", '"'))
        except (ValueError, RecursionError):
            pass
    return _literal(payload)


def _literal(payload: str) -> Any:
    """A payload as a Python literal; None where it is none."""
    try:
        # Of odd escapes Python warns whoever runs it; these are a model's.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.literal_eval(payload)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _point(value: Any) -> tuple[float, float] | None:
    found = numbers(value, 2)
    return (found[0], found[1]) if found and min(found) >= 0 else None


def _box(value: Any) -> Box | None:
    found = numbers(value, 4)
    if found is None or min(found) < 0 or found[0] >= found[2] or found[1] >= found[3]:
        return None
    return found[0], found[1], found[2], found[3]
