"""Facts, rules with conditions and a conclusion, and what follows: by chaining, and by trying all worlds."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

Literal = tuple[str, bool]
"""A property, and whether it holds."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Whatever has all of `conditions` has, or lacks, the property of `conclusion`."""

    conditions: tuple[str, ...]
    conclusion: Literal


def heights(facts: Collection[Literal], rules: Sequence[Rule]) -> dict[Literal, int]:
    """All that follows about one thing by chaining forward, with the height of its lowest proof; facts have 0."""
    found = dict.fromkeys(facts, 0)
    for height in range(1, len(rules) + 1):
        before = dict(found)
        for rule in rules:
            if all((condition, True) in before for condition in rule.conditions):
                found.setdefault(rule.conclusion, height)
        if len(found) == len(before):
            break
    return found


def verdict(facts: Collection[Literal], rules: Sequence[Rule], asked: Literal, closed: bool) -> str:
    """Whether `asked` holds of one thing, by going through all ways that its properties could be.

    Args:
        facts: What is said of it.
        rules: What is said of everything.
        asked: The statement.
        closed: What does not follow is false; otherwise it is unknown.

    Raises:
        ValueError: Facts and rules contradict each other.
    """
    names = sorted({name for name, _ in [*facts, asked]} | {name for rule in rules for name in _named(rule)})
    column = {name: number for number, name in enumerate(names)}
    worlds = (np.arange(2 ** len(names))[:, None] >> np.arange(len(names)) & 1).astype(bool)
    fits = np.ones(len(worlds), dtype=bool)
    for name, holds in facts:
        fits &= worlds[:, column[name]] == holds
    for rule in rules:
        applies = worlds[:, [column[condition] for condition in rule.conditions]].all(axis=1)
        fits &= ~applies | (worlds[:, column[rule.conclusion[0]]] == rule.conclusion[1])
    if not fits.any():
        raise ValueError("facts and rules contradict each other")
    holds_in = worlds[fits, column[asked[0]]]
    if closed:
        return "True" if bool(holds_in.all()) == asked[1] else "False"
    holds_in = holds_in == asked[1]
    return "True" if holds_in.all() else "Unknown" if holds_in.any() else "False"


def _named(rule: Rule) -> set[str]:
    return {*rule.conditions, rule.conclusion[0]}
