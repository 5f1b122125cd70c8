"""Who stands where in a row? Clues leave one answer, found by going through all orders (as in BIG-bench's deduction).

The depth is the smallest number of the clues given that decide the question.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray

from rlrules.data.reasoning.problem import PEOPLE, Family, Problem, World, listed, section

_NTH = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")
_SIZES = (3, 7)
LETTERS = "ABCDEFG"
Orders = NDArray[np.int8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Clue:
    """A relation between places: `kind` with one or two people and, where it needs one, a number."""

    kind: str
    first: int
    second: int = 0
    number: int = 0

    def told(self, names: Sequence[str]) -> str:
        """The clue in words."""
        first, second, between = names[self.first], names[self.second], self.number - 1
        return {
            "before": f"{first} stands somewhere to the left of {second}.",
            "next": f"{first} stands directly to the left of {second}.",
            "apart": f"There {'is' if between == 1 else 'are'} exactly {between} between {first} and {second}.",
            "at": f"{first} is the {_NTH[self.number]} from the left.",
            "not_at": f"{first} is not the {_NTH[self.number]} from the left.",
        }[self.kind]

    def fits(self, places: Orders) -> Mask:
        """Shape (orders,): where it is true; `places` has shape (orders, people)."""
        first, second = places[:, self.first], places[:, self.second]
        fitting: dict[str, Mask] = {
            "before": first < second,
            "next": first + 1 == second,
            "apart": np.abs(first - second) == self.number,
            "at": first == self.number,
            "not_at": first != self.number,
        }
        return fitting[self.kind]


@cache
def _orders(size: int) -> Orders:
    """Shape (size!, size): for each order the place of each."""
    return np.array(list(permutations(range(size))), dtype=np.int8)


def _clue(draws: random.Random, true: Sequence[int]) -> Clue:
    """A clue that is true of the places `true`."""
    size = len(true)
    first, second = draws.sample(range(size), 2)
    if true[first] > true[second]:
        first, second = second, first
    distance = true[second] - true[first]
    kinds = ["before", "not_at", *(["next"] if distance == 1 else []), *(["apart"] if distance > 1 else [])]
    kind = draws.choice([*kinds, "at"] if draws.random() < 0.3 else kinds)
    if kind in ("at", "not_at"):
        who = draws.randrange(size)
        number = true[who] if kind == "at" else draws.choice([place for place in range(size) if place != true[who]])
        return Clue(kind, who, number=number)
    return Clue(kind, first, second, distance if kind == "apart" else 0)


def _decides(at: Orders, mask: Mask) -> bool:
    """Whether all orders in `mask` have the same one at the place asked for; `at` has shape (orders,)."""
    left = at[mask]
    return bool((left == left[0]).all())


def _fewest(at: Orders, masks: Sequence[Mask], most: int) -> int:
    """The smallest number of clues that decide the question; more than `most` where it takes more."""
    for count in range(most + 1):
        for chosen in combinations(masks, count):
            if _decides(at, np.logical_and.reduce(chosen) if chosen else np.ones(len(at), dtype=bool)):
                return count
    return most + 1


def _generate(draws: random.Random, depth: int, distractors: int, world: World) -> Problem | None:
    size = max(_SIZES[0], min(_SIZES[1], depth + 1))
    places = _orders(size)
    true = draws.sample(range(size), size)
    asked = draws.randrange(size)
    at = (places == asked).argmax(axis=1).astype(np.int8)
    clues: list[Clue] = []
    left = np.ones(len(places), dtype=bool)
    while not _decides(at, left):
        clue = _clue(draws, true)
        if (fits := clue.fits(places))[left].all():
            continue  # It says nothing new.
        clues.append(clue)
        left = left & fits
    for clue in list(clues):
        rest = [other for other in clues if other != clue]
        if rest and _decides(at, np.logical_and.reduce([other.fits(places) for other in rest])):
            clues = rest
    masks = [clue.fits(places) for clue in clues]
    if len(clues) != depth or _fewest(at, masks, depth - 1) < depth:
        return None
    while len(clues) < depth + distractors:
        for _ in range(20):
            clue = _clue(draws, true)
            if clue not in clues and _fewest(at, [*masks, clue.fits(places)], depth - 1) == depth:
                break
        else:
            return None
        clues.append(clue)
        masks.append(clue.fits(places))
    return _told(draws, clues, true, asked, depth)


def _told(draws: random.Random, clues: list[Clue], true: Sequence[int], asked: int, depth: int) -> Problem:
    names = draws.sample([*PEOPLE["female"], *PEOPLE["male"]], len(true))
    lines = [clue.told(names) for clue in clues]
    draws.shuffle(lines)
    options = draws.sample(names, len(names))
    text = f"{', '.join(sorted(names))} stand side by side in a row.\n" + listed("Clues", lines)
    text += f"Question: who is the {_NTH[asked]} from the left?\n"
    text += listed("Options", [f"{letter}) {name}" for letter, name in zip(LETTERS, options, strict=False)]).rstrip()
    answer = LETTERS[options.index(names[true.index(asked)])]
    return Problem(text, answer, tuple(LETTERS[: len(names)]), depth)


_WORDS = {
    "before": re.compile(r"(?P<a>\w+) stands somewhere to the left of (?P<b>\w+)\."),
    "next": re.compile(r"(?P<a>\w+) stands directly to the left of (?P<b>\w+)\."),
    "apart": re.compile(r"There (?:is|are) exactly (?P<n>\d) between (?P<a>\w+) and (?P<b>\w+)\."),
    "at": re.compile(r"(?P<a>\w+) is the (?P<n>\w+) from the left\."),
    "not_at": re.compile(r"(?P<a>\w+) is not the (?P<n>\w+) from the left\."),
}


def _true(line: str, order: Sequence[str]) -> bool:
    """Whether a clue is true of an order of names."""
    for kind, words in _WORDS.items():
        if not (found := words.fullmatch(line)):
            continue
        first = order.index(found["a"])
        if kind in ("at", "not_at"):
            return (order[_NTH.index(found["n"])] == found["a"]) == (kind == "at")
        second = order.index(found["b"])
        if kind == "apart":
            return abs(first - second) - 1 == int(found["n"])
        return first < second if kind == "before" else second - first == 1
    raise ValueError(f"not a clue: {line!r}")


def _solve(text: str) -> str:
    """The answer, by trying all orders."""
    options = dict(line.split(") ") for line in section(text, "Options"))
    asked = re.search(r"Question: who is the (\w+) from the left\?", text)
    if asked is None:
        raise ValueError("no question")
    clues = section(text, "Clues")
    fitting = [order for order in permutations(options.values()) if all(_true(clue, order) for clue in clues)]
    found = {order[_NTH.index(asked[1])] for order in fitting}
    if len(found) != 1:
        raise ValueError(f"{len(found)} answers")
    return next(letter for letter, name in options.items() if name in found)


ORDERING = Family(_generate, _solve, (1, 6), "the letter of the right option")
