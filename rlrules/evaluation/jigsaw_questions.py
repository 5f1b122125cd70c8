"""Answers to jigsaw questions of every type, beside what a guess would get (Jigsaw-R1, sections 4 and 5).

Half of all 2x1 puzzles are solved already, so that a model that always says so is right half of the time: solved and
unsolved ones are told apart. Relations are not equally likely, so that the best guess without a look at the image is
better than a random letter: both are given.
"""

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlrules.data.jigsaw_questions import relation_chances
from rlrules.errors import DataError
from rlrules.evaluation.files import need, refuse_again
from rlrules.evaluation.stats import RESAMPLES, bootstrap
from rlrules.rewards.boxes import iou
from rlrules.rewards.jigsaw import HIT, judged, option_count, read, right_answer, row_problem

FORMAT_WEIGHT = 0.5
_GUESSES = 200


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer.

    Attributes:
        grid: "2x1".
        solved: Whether the puzzle was shown solved; None where it has no such state, or does not say.
        exact: Whether all of the answer is right.
        accuracy: How much of it is.
        formed: Whether it is written as asked.
        readable: Whether it can be read at all.
        tokens: Its length, where the line says.
        chance: Of a random answer: exact, and its expected accuracy.
        blind: Of the best answer that does not depend on the image: exact.
    """

    grid: str
    solved: bool | None
    exact: bool
    accuracy: float
    formed: bool
    readable: bool
    tokens: int | None
    chance: tuple[float, float]
    blind: float


def question_metrics(
    lines: Iterable[tuple[str, Mapping[str, Any]]], think: bool, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """Accuracy, format and reward over all answers, by grid, and for solved and unsolved puzzles.

    No number depends on the lines' order.

    Args:
        lines: {question, m, n, answer, completion or response, options?, arrangement?, image_size?, tokens?}; a
            `response` needs an `id` that stands once, while a run's log has several completions of one row.
        think: Whether thoughts were asked for.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        DataError: A column is missing or malformed, an id stands twice, or there are no lines.
    """
    seen: set[str] = set()
    answers = [_judged(where, line, think, seen) for where, line in lines]
    if not answers:
        raise DataError("no puzzles")
    found = {
        name: bootstrap(sorted(values), resamples=resamples, seed=seed)
        for name, values in (
            ("exact", [float(one.exact) for one in answers]),
            ("accuracy", [one.accuracy for one in answers]),
            ("format", [float(one.formed) for one in answers]),
            ("reward", [one.accuracy + FORMAT_WEIGHT * one.formed for one in answers]),
        )
    }
    tokens = [one.tokens for one in answers if one.tokens is not None]
    return {
        **{name: part.value for name, part in found.items()},
        "tokens": math.fsum(tokens) / len(tokens) if tokens else None,
        "n": len(answers),
        "n_unreadable": sum(not one.readable for one in answers),
        "by_chance": {
            "exact": _mean([one.chance[0] for one in answers]),
            "accuracy": _mean([one.chance[1] for one in answers]),
            "exact, best blind guess": _mean([one.blind for one in answers]),
        },
        "by_puzzle": _parts(answers, {True: "solved", False: "unsolved"}, lambda one: one.solved),
        "by_grid": _parts(
            answers, {grid: grid for grid in sorted({one.grid for one in answers})}, lambda one: one.grid
        ),
        "intervals": {name: part.record() for name, part in found.items()} if resamples else {},
    }


def chances(row: Mapping[str, Any]) -> tuple[float, float, float]:
    """What guessing gets on a row: exact and expected accuracy of a random answer, exact of the best constant one.

    A random box has two corners anywhere; the mean is over draws with a seed of their own.
    """
    question, size = row["question"], row["m"] * row["n"]
    if question == "full":
        exact = 1 / math.factorial(size)
        return exact, 1 / size, exact
    if question == "single":
        return 1 / size, 1 / size, 1 / size
    if question == "box":
        overlaps = [iou(_any_box(random.Random(number)), right_answer(row)) for number in range(_GUESSES)]
        hits = _mean([float(overlap > HIT) for overlap in overlaps])
        return hits, _mean(overlaps), hits
    uniform = 1 / option_count(row)
    blind = max(relation_chances(row["m"], row["n"]).values()) if question == "pair" else uniform
    return uniform, uniform, blind


def _judged(where: str, line: Mapping[str, Any], think: bool, seen: set[str]) -> Judged:
    need(line, ("question", "m", "n", "answer"), where)
    if problem := row_problem(line):
        raise DataError(f"{where}: {problem}")
    name = "completion" if "completion" in line else "response"
    need(line, (name,), where)
    text, tokens, arrangement = line[name], line.get("tokens"), line.get("arrangement")
    if text is not None and not isinstance(text, str):
        raise DataError(f"{where}: `{name}`: expected text or null, got {type(text).__name__}")
    if tokens is not None and (type(tokens) is not int or tokens < 0):
        raise DataError(f"{where}: `tokens`: expected a count, got {tokens!r}")
    if name == "response":
        need(line, ("id",), where)
        refuse_again(str(line["id"]), seen, where, "id")
        seen.add(str(line["id"]))
    if arrangement is None and line["question"] == "full":
        arrangement = right_answer(line)
    answer = read(text or "", line, think)
    accuracy, right = judged(answer, line)
    exact, expected, blind = chances(line)
    return Judged(
        f"{line['m']}x{line['n']}",
        None if arrangement is None else list(arrangement) == sorted(arrangement),
        right,
        accuracy,
        answer.formed,
        answer.value is not None,
        tokens,
        (exact, expected),
        blind,
    )


def _parts(answers: Sequence[Judged], names: Mapping[Any, str], key: Any) -> dict[str, dict[str, float | int]]:
    parts: dict[Any, list[Judged]] = defaultdict(list)
    for one in answers:
        parts[key(one)].append(one)
    return {
        name: {
            "exact": _mean([float(one.exact) for one in parts[value]]),
            "accuracy": _mean([one.accuracy for one in parts[value]]),
            "n": len(parts[value]),
        }
        for value, name in names.items()
        if parts[value]
    }


def _any_box(generator: random.Random) -> list[float]:
    across, down = (sorted((generator.random(), generator.random())) for _ in range(2))
    return [across[0], down[0], across[1], down[1]]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
