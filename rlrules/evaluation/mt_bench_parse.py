"""What a judge's text says: a grade from 1 to 10, or which of two answers is better.

The reference's rules are here beside ours, because published judgments were read by them.
"""

import re
from typing import Literal

_DOUBLE = re.compile(r"\[\[(\d+(?:\.\d+)?)\]\]")
_SINGLE = re.compile(r"\[(\d+(?:\.\d+)?)\]")
_LETTER = re.compile(r"\[\[([ABC])\]\]")
LOWEST, HIGHEST = 1.0, 10.0

Side = Literal["A", "B", "tie"]


def read_grade(text: str) -> float | None:
    """The grade: the last number in double brackets from 1 to 10, else in single ones on the last line."""
    for found in reversed(_DOUBLE.findall(text)):
        if LOWEST <= float(found) <= HIGHEST:
            return float(found)
    lines = text.strip().splitlines()
    for found in reversed(_SINGLE.findall(lines[-1]) if lines else []):
        if LOWEST <= float(found) <= HIGHEST:
            return float(found)
    return None


def read_grade_as_reference(text: str) -> float | None:
    """The reference's rule: the first number in double brackets, else in single ones, whatever its size."""
    match = _DOUBLE.search(text) or _SINGLE.search(text)
    return float(match[1]) if match else None


def read_side(text: str) -> Side | None:
    """Which answer is better: the last marker decides."""
    found = _LETTER.findall(text)
    sides: dict[str, Side] = {"A": "A", "B": "B", "C": "tie"}
    return sides[found[-1]] if found else None


def read_side_as_reference(text: str) -> Side | None:
    """The reference's rule: A, then B, then the tie, whichever is there at all."""
    sides: tuple[tuple[str, Side], ...] = (("[[A]]", "A"), ("[[B]]", "B"), ("[[C]]", "tie"))
    return next((side for marker, side in sides if marker in text), None)
