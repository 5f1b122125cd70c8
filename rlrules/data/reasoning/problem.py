"""What a generated question is, and what its families share."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rlrules.errors import DataError

World = Literal["closed", "open"]
TRIES = 500
PEOPLE = {
    "female": ("Anna", "Bea", "Carla", "Dora", "Elsa", "Fay", "Gina", "Hanna", "Iris", "Jana", "Kate", "Lena", "Mona"),
    "male": ("Adam", "Ben", "Carl", "Dan", "Emil", "Finn", "Georg", "Hugo", "Ivan", "Jonas", "Karl", "Leo", "Max"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A question.

    Attributes:
        text: The whole question, without a word on how to answer.
        answer: One of `labels`.
        labels: All answers that can be given.
        depth: How many steps the answer is away, as its family counts them.
    """

    text: str
    answer: str
    labels: tuple[str, ...]
    depth: int


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of question.

    Attributes:
        generate: Makes one from a generator, a depth, a number of distractors and a world; None where chance did not
            give one, to be tried again.
        solve: The answer, from the text alone.
        depths: The least and the greatest.
        asks_for: What the answer is, in words; empty: one of the labels.
    """

    generate: Callable[[random.Random, int, int, World], Problem | None]
    solve: Callable[[str], str]
    depths: tuple[int, int]
    asks_for: str = ""

    def make(self, seed: str, depth: int, distractors: int, world: World) -> Problem:
        """One question: always the same one for the same arguments.

        Raises:
            DataError: Chance gave none in many tries: there are too many distractors.
        """
        draws = random.Random(seed)
        for _ in range(TRIES):
            problem = self.generate(draws, depth, distractors, world)
            if problem is not None:
                return problem
        message = f"no question of depth {depth} with {distractors} distractors in {TRIES} tries"
        raise DataError(f"{message}; ask for fewer distractors")


def section(text: str, name: str) -> list[str]:
    """The lines under a heading of a question, without their dashes."""
    found = re.search(rf"^{name}:\n((?:- .*\n?)*)", text, re.MULTILINE)
    return [line.removeprefix("- ") for line in found[1].splitlines()] if found else []


def listed(name: str, lines: list[str]) -> str:
    """A heading with a line each."""
    return f"{name}:\n" + "".join(f"- {line}\n" for line in lines)
