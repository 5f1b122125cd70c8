"""Does a statement follow? Rules and facts about properties (as in ProofWriter) and about made-up kinds (ProntoQA).

The depth is the height of the lowest proof; where nothing can be proved, of the one that lacks a single fact.
"""

import random
import re
from dataclasses import dataclass, field
from itertools import pairwise

from rlrules.data.reasoning.horn import Literal, Rule, heights, verdict
from rlrules.data.reasoning.problem import PEOPLE, Family, Problem, World, listed, section

CLOSED, OPEN = "What does not follow is false.", "What follows neither way is unknown."
_NAMES = (*PEOPLE["female"], *PEOPLE["male"])
_PROPERTIES = (
    *("bright", "calm", "clever", "cold", "funny", "gentle", "green", "heavy", "honest", "hungry", "kind", "loud"),
    *("lucky", "neat", "old", "proud", "quick", "quiet", "red", "rich", "rough", "round", "shy", "small", "smooth"),
    *("strong", "tall", "tired", "warm", "wise", "young"),
)
_KINDS = (
    *("blick", "brunt", "chell", "crump", "dax", "dorple", "fendle", "flim", "gorp", "grint", "jelp", "kiv", "lorp"),
    *("mib", "narp", "plonk", "quib", "rimp", "skell", "sluff", "spaw", "thrim", "tove", "vab", "wug", "yorn", "zent"),
)
_SIDE = 0.4
"""How often a rule of the proof has a second condition."""


@dataclass(slots=True)
class _Theory:
    """What is said: of everything, of the one who is asked about, of others."""

    rules: list[Rule] = field(default_factory=list)
    facts: list[Literal] = field(default_factory=list)
    others: list[tuple[str, Literal]] = field(default_factory=list)


def _properties(draws: random.Random, depth: int, distractors: int, world: World) -> Problem | None:
    """A question about properties."""
    return _question(draws, depth, distractors, world, kinds=False)


def _kinds(draws: random.Random, depth: int, distractors: int, world: World) -> Problem | None:
    """A question about kinds, whose answer always follows."""
    return _question(draws, depth, distractors, world, kinds=True)


def _question(draws: random.Random, depth: int, distractors: int, world: World, kinds: bool) -> Problem | None:
    closed = world == "closed" and not kinds
    labels = ("True", "False") if kinds or closed else ("True", "False", "Unknown")
    answer, positive = draws.choice(labels), draws.random() < 0.5
    # Closed, a proof is of what is there; open and of kinds, it may be of what is not.
    proved = answer != "Unknown" and (not closed or (answer == "True") == positive)
    sign = True if closed or not proved else (answer == "True") == positive
    words = draws.sample(_KINDS if kinds else _PROPERTIES, depth + 6)
    chain, spare = words[: depth + 1], words[depth + 1 :]
    who, *others = draws.sample(_NAMES, 3)
    theory = _proof(draws, chain, spare, sign, kinds)
    missing = "" if proved else _break(draws, theory, chain[0], spare[-1], others[0])
    _distract(draws, theory, [*chain, *spare], others, distractors, (kinds, closed))
    found = heights(theory.facts, theory.rules)
    goal = (chain[-1], sign)
    if proved and found.get(goal) != depth:
        return None
    if not proved:
        mended = heights([*theory.facts, (missing, True)], theory.rules)
        if goal in found or (chain[-1], False) in found or mended.get(goal) != depth:
            return None
    text = _told(draws, theory, who, (chain[-1], positive), kinds, None if kinds else closed)
    try:
        # Trying all worlds finds what chaining does not, such as a conclusion backwards from what is not.
        return Problem(text, answer, labels, depth) if _solve(text) == answer else None
    except ValueError:
        return None


def _proof(draws: random.Random, chain: list[str], spare: list[str], sign: bool, kinds: bool) -> _Theory:
    """A chain of rules from a fact to the goal."""
    theory = _Theory(facts=[(chain[0], True if len(chain) > 1 else sign)])
    for place, (condition, conclusion) in enumerate(pairwise(chain)):
        conditions: tuple[str, ...] = (condition,)
        if not kinds and draws.random() < _SIDE:
            side = draws.choice(spare[:2])
            conditions += (side,)
            if (side, True) not in theory.facts:
                theory.facts.append((side, True))
        theory.rules.append(Rule(conditions, (conclusion, sign if place == len(chain) - 2 else True)))
    return theory


def _break(draws: random.Random, theory: _Theory, first: str, spare: str, other: str) -> str:
    """Say of another a fact without which the goal does not follow, and of this one something else; returns it."""
    sides = [name for name, _ in theory.facts[1:]]
    missing = draws.choice(sides) if sides and draws.random() < 0.5 else first
    theory.facts[theory.facts.index((missing, True))] = (spare, True)
    theory.others.append((other, (missing, True)))
    return missing


def _distract(
    draws: random.Random,
    theory: _Theory,
    words: list[str],
    others: list[str],
    count: int,
    style: tuple[bool, bool],
) -> None:
    """Add rules that are to lead nowhere, and facts about others; `style`: whether of kinds, whether closed."""
    kinds, closed = style
    for _ in range(count):
        first, second, target = draws.sample(words, 3)
        conditions = (first, second) if not kinds and draws.random() < _SIDE else (first,)
        theory.rules.append(Rule(conditions, (target, closed or draws.random() < 0.8)))
        theory.others.append((draws.choice(others), (draws.choice(words), True)))


def _told(draws: random.Random, theory: _Theory, who: str, asked: Literal, kinds: bool, closed: bool | None) -> str:
    rules = [_rule(draws, rule, kinds) for rule in dict.fromkeys(theory.rules)]
    facts = [_fact(who, fact, kinds) for fact in theory.facts]
    facts += [_fact(other, fact, kinds) for other, fact in dict.fromkeys(theory.others)]
    draws.shuffle(rules)
    draws.shuffle(facts)
    told = "" if closed is None else f" {CLOSED if closed else OPEN}"
    question = f"Question: is it true that {_fact(who, asked, kinds)[:-1]}?{told}"
    return listed("Rules", rules) + listed("Facts", facts) + question


def _fact(who: str, fact: Literal, kinds: bool) -> str:
    return f"{who} is {'' if fact[1] else 'not '}{'a ' if kinds else ''}{fact[0]}."


def _rule(draws: random.Random, rule: Rule, kinds: bool) -> str:
    name, holds = rule.conclusion
    if kinds:
        return f"{draws.choice(('Every', 'Each')) if holds else 'No'} {rule.conditions[0]} is a {name}."
    conditions, nots = " and ".join(rule.conditions), "" if holds else "not "
    if draws.random() < 0.5:
        return f"If something is {conditions}, then it is {nots}{name}."
    return f"Everything that is {conditions} is {nots}{name}."


_RULE = re.compile(r"(?:If something is|Everything that is) (.+?)(?:, then it)? is (not )?(\w+)\.")
_KIND_RULE = re.compile(r"(Every|Each|No) (\w+) is a (\w+)\.")
_FACT = re.compile(r"(\w+) is (not )?(?:a )?(\w+)\.")
_ASKED = re.compile(r"Question: is it true that (\w+) is (not )?(?:a )?(\w+)\?(.*)$")


def _solve(text: str) -> str:
    """The answer, by trying all ways that the properties of the one asked about could be."""
    rules: list[Rule] = []
    for line in section(text, "Rules"):
        if found := _KIND_RULE.fullmatch(line):
            rules.append(Rule((found[2],), (found[3], found[1] != "No")))
        elif found := _RULE.fullmatch(line):
            rules.append(Rule(tuple(found[1].split(" and ")), (found[3], not found[2])))
        else:
            raise ValueError(f"not a rule: {line!r}")
    asked = _ASKED.search(text)
    if asked is None:
        raise ValueError("no question")
    facts: list[Literal] = []
    for line in section(text, "Facts"):
        found = _FACT.fullmatch(line)
        if found is None:
            raise ValueError(f"not a fact: {line!r}")
        if found[1] == asked[1]:
            facts.append((found[3], not found[2]))
    return verdict(facts, rules, (asked[3], not asked[2]), asked[4].strip() == CLOSED)


DEDUCTION = Family(_properties, _solve, (0, 6))
ONTOLOGY = Family(_kinds, _solve, (1, 6))
