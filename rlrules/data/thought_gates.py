"""What a thought must be to be learned from: it is long, plans first and checks last (Light-IF, section 3)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Constraints = Sequence[tuple[str, Mapping[str, Any]]]

# How a thought may speak of a kind whose arguments say nothing that could be looked for.
_CUES: Mapping[str, str] = {
    "punctuation:no_comma": r"comma|逗号",
    "startend:quotation": r"quot",
    "detectable_format:title": r"title|<<",
    "detectable_format:json_format": r"json",
    "combination:two_responses": r"\b(?:two|2)\b|\*{6}",
    "combination:repeat_prompt": r"repeat|again|word for word",
    "change_case:english_capital": r"capital|upper[- ]?case|\bcaps\b",
    "change_case:english_lowercase": r"lower[- ]?case|small letter|without capital|no capital",
}
_CHECKS = r"count|check|verif|tally|confirm|make sure|检查|统计|确认|数一下|核对"
_NEAR = 80
"""Characters between a word of checking and the number that is checked."""
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_HAN = "零一二三四五六七八九十"


@dataclass(frozen=True, slots=True)
class Depth:
    """Whether a thought is deep.

    Attributes:
        length: Whether it is neither too short nor too long.
        preview: Whether its first half speaks of enough of the constraints.
        self_check: Whether its second half checks what can be counted.
        mentioned: Share of the constraints that the first half speaks of.
    """

    length: bool
    preview: bool
    self_check: bool
    mentioned: float


def depth(thought: str, tokens: int, constraints: Constraints, least: int, most: float, preview: float) -> Depth:
    """Look at a thought.

    Args:
        thought: Without its tags.
        tokens: Its length, in the tokens of the model to be trained.
        constraints: Ids with their arguments.
        least: Fewest tokens.
        most: Most tokens.
        preview: Share of the constraints that the first half must speak of.
    """
    first, second = thought[: len(thought) // 2], thought[len(thought) // 2 :]
    mentioned = sum(mentions(first, name, arguments) for name, arguments in constraints) / len(constraints)
    return Depth(
        length=least <= tokens <= most,
        preview=mentioned >= preview,
        self_check=checks(second, constraints),
        mentioned=mentioned,
    )


def mentions(text: str, name: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a text speaks of a constraint: by a word or a number of its arguments, or by the kind's own words."""
    if name in _CUES:
        return re.search(_CUES[name], text, re.IGNORECASE) is not None
    words, numbers = list(_texts(arguments)), list(_numbers(arguments))
    if words:
        return any(word.lower() in text.lower() for word in words)
    if numbers:
        return any(re.search(_spelled(number), text, re.IGNORECASE) for number in numbers)
    # "format:no_whitespace": its last part, as words.
    return re.search(name.rpartition(":")[2].replace("_", ".?"), text, re.IGNORECASE) is not None


def checks(text: str, constraints: Constraints) -> bool:
    """Whether a text checks each countable constraint, a word of checking near its number; or else checks at all."""
    counted = [numbers for _, arguments in constraints if (numbers := list(_numbers(arguments)))]
    if not counted:
        return re.search(_CHECKS, text, re.IGNORECASE) is not None
    return all(any(_checked_near(text, number) for number in numbers) for numbers in counted)


def _checked_near(text: str, number: int) -> bool:
    spelled = _spelled(number)
    near = rf"(?:{_CHECKS}).{{0,{_NEAR}}}?{spelled}|{spelled}.{{0,{_NEAR}}}?(?:{_CHECKS})"
    return re.search(near, text, re.IGNORECASE | re.DOTALL) is not None


def _spelled(number: int) -> str:
    """A pattern of the ways to write a number."""
    ways = [rf"(?<!\d){number}(?!\d)"]
    if number < len(_NUMBERS):
        ways.append(rf"\b{_NUMBERS[number]}\b")
    if number < len(_HAN):
        ways.append(_HAN[number])
    return f"(?:{'|'.join(ways)})"


# Words that say how a number is meant, not what is asked for.
_NOT_WORDS = {"relation", "let_relation", "capital_relation", "prompt_to_repeat"}


def _texts(arguments: Mapping[str, Any]) -> Iterator[str]:
    for key, value in arguments.items():
        values = value if isinstance(value, list | tuple) else [value]
        if key not in _NOT_WORDS:
            yield from (one for one in values if isinstance(one, str))


def _numbers(arguments: Mapping[str, Any]) -> Iterator[int]:
    # A place, such as that of a paragraph, is a number too, but nothing to be counted.
    for key, value in arguments.items():
        if isinstance(value, int) and not isinstance(value, bool) and key != "nth_paragraph":
            yield value
