"""What are two people to each other? Relations along a chain are put together by rules that are given (as in CLUTRR).

The depth is how many rules have to be applied, one less than the relations on the way.
"""

import random
import re
from itertools import pairwise

from rlrules.data.reasoning.problem import PEOPLE, Family, Problem, World, listed, section

# Relation, by generations up to the common ancestor and down again: words for a woman and for a man.
WORDS = {
    (1, 0): ("mother", "father"),
    (0, 1): ("daughter", "son"),
    (1, 1): ("sister", "brother"),
    (2, 0): ("grandmother", "grandfather"),
    (0, 2): ("granddaughter", "grandson"),
    (2, 1): ("aunt", "uncle"),
    (1, 2): ("niece", "nephew"),
    (2, 2): ("cousin", "cousin"),
    (3, 0): ("great-grandmother", "great-grandfather"),
    (0, 3): ("great-granddaughter", "great-grandson"),
    (1, 3): ("grandniece", "grandnephew"),
    (3, 1): ("grandaunt", "granduncle"),
}
Kin = tuple[int, int]
_STEPS: tuple[Kin, ...] = ((1, 0), (0, 1), (1, 1))
LABELS = tuple(dict.fromkeys(word for pair in WORDS.values() for word in pair))


def composed(first: Kin, step: Kin) -> Kin | None:
    """What the parent, child or sibling of somebody's kin is to them, different people; None where it is not certain.

    Families are taken to be plain: siblings share both parents, and nobody marries their kin.
    """
    up, down = first
    if step == (0, 1):
        # A grandparent's child may be a parent or an aunt; a child's child is always a grandchild.
        found = (up, down + 1) if down or up <= 1 else None
    elif step == (1, 0):
        # The other parent of one's own descendants, or of a sibling's, is no kin.
        found = (up + 1, 0) if not down else (up, 0) if up and down == 1 else None
    else:
        # An ancestor's sibling goes one further up; the siblings of all others are what they are themselves.
        found = (up + 1, 1) if not down else first if down != 1 or up <= 1 else None
    return found if found in WORDS else None


RULES = {(kin, step): made for kin in WORDS for step in _STEPS if (made := composed(kin, step)) is not None}
_GENDERS = ("female", "male")


def _generate(draws: random.Random, depth: int, distractors: int, world: World) -> Problem | None:
    steps = [draws.choice(_STEPS)]
    kin: list[Kin] = [steps[0]]
    for _ in range(depth):
        open_ = [step for step in _STEPS if (kin[-1], step) in RULES]
        if not open_:
            return None
        steps.append(draws.choice(open_))
        kin.append(RULES[kin[-1], steps[-1]])
    used = {(before, step) for before, step in zip(kin, steps[1:], strict=False)}
    free = {gender: draws.sample(PEOPLE[gender], len(PEOPLE[gender])) for gender in _GENDERS}
    genders = [draws.randrange(2) for _ in range(depth + 2)]
    parents = [gender for one, gender in zip(kin, genders[1:], strict=True) if one == (1, 0)]
    if len(set(parents)) < len(parents):
        return None  # Two mothers, or two fathers.
    people = [free[_GENDERS[gender]].pop() for gender in genders]
    facts = [
        _fact(after, before, step, gender)
        for (before, after), step, gender in zip(pairwise(people), steps, genders[1:], strict=True)
    ]
    for _ in range(distractors):
        # A leaf of the family, of which anyone may have many: nothing leads on from it to the other end.
        gender = draws.randrange(2)
        if not free[_GENDERS[gender]]:
            return None
        facts.append(_fact(free[_GENDERS[gender]].pop(), draws.choice(people), draws.choice(_STEPS[1:]), gender))
    others = [rule for rule in RULES if rule not in used]
    rules = sorted(used) + draws.sample(others, min(distractors, len(others)))
    draws.shuffle(rules)
    draws.shuffle(facts)
    question = f"Question: what is {people[-1]} to {people[0]}?"
    text = listed("Rules", [_rule(*rule) for rule in rules]) + listed("Facts", facts) + question
    answer = WORDS[kin[-1]][genders[-1]]
    return Problem(text, answer, LABELS, depth) if _solve(text) == answer else None


def _fact(who: str, of: str, step: Kin, gender: int) -> str:
    return f"{who} is the {WORDS[step][gender]} of {of}."


def _rule(kin: Kin, step: Kin) -> str:
    made = WORDS[RULES[kin, step]]
    told = made[0] if made[0] == made[1] else " or ".join(made)
    either = [" or ".join(dict.fromkeys(WORDS[part])) for part in (step, kin)]
    return f"A {either[0]} of somebody's {either[1]} is their {told}."


_RULE = re.compile(r"A (\S+) or (\S+) of somebody's (\S+?)(?: or (\S+))? is their (\S+?)(?: or (\S+))?\.")
_FACT = re.compile(r"(\w+) is the (\S+) of (\w+)\.")
_ASKED = re.compile(r"Question: what is (\w+) to (\w+)\?")


def _solve(text: str) -> str:
    """The answer, by applying every rule to every pair of relations until nothing new is found."""
    rules: dict[tuple[str, str], str] = {}
    for line in section(text, "Rules"):
        found = _RULE.fullmatch(line)
        if found is None:
            raise ValueError(f"not a rule: {line!r}")
        made = (found[5], found[6] or found[5])
        for kin in (found[3], found[4] or found[3]):
            rules |= {(kin, found[1]): made[0], (kin, found[2]): made[1]}
    known: dict[tuple[str, str], set[str]] = {}
    for line in section(text, "Facts"):
        found = _FACT.fullmatch(line)
        if found is None:
            raise ValueError(f"not a fact: {line!r}")
        known[found[3], found[1]] = {found[2]}
    grown = True
    while grown:
        grown = False
        for (start, middle), first in list(known.items()):
            for (other, end), second in list(known.items()):
                made_all = {rules[a, b] for a in first for b in second if (a, b) in rules}
                if other == middle and end != start and not made_all <= known.get((start, end), set()):
                    known.setdefault((start, end), set()).update(made_all)
                    grown = True
    asked = _ASKED.search(text)
    answers = known.get((asked[2], asked[1]), set()) if asked else set()
    if len(answers) != 1:
        raise ValueError(f"{len(answers)} answers")
    return answers.pop()


KINSHIP = Family(_generate, _solve, (1, 5), "the word for the relation")
