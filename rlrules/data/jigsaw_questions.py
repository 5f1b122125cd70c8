"""Questions about jigsaw puzzles and their right answers, drawn without looking at the image (Jigsaw-R1, section 3.2).

A draw depends on its generator alone. An arrangement says, for every cell, which piece it shows.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlrules.data.jigsaw_images import Box
from rlrules.rewards.jigsaw_answers import LETTERS, Question

STRAIGHT = ("left", "right", "above", "below")
DIAGONAL = ("upper left", "upper right", "lower left", "lower right")
PATCH_SIDE = (0.1, 0.6)
"""Bounds of a patch's sides, as shares of its region's."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about a puzzle.

    Attributes:
        question: Its type.
        cells: The cells that it names, if any.
        options: What its letters stand for: relations, or arrangements; empty where there are none.
        answer: The right answer: an arrangement, a letter, or an index.
    """

    question: Question
    cells: tuple[int, ...]
    options: tuple[Any, ...]
    answer: list[int] | str | int


def shuffled(generator: random.Random, size: int) -> list[int]:
    """An arrangement, uniform over all of them; the solved one is one of them."""
    return generator.sample(range(1, size + 1), size)


def relation(first: int, second: int, columns: int) -> str:
    """Where the home of one piece lies, seen from another's; straight ones need not be next to each other."""
    row, column = divmod(first - 1, columns)
    other_row, other_column = divmod(second - 1, columns)
    if row == other_row:
        return "left" if column < other_column else "right"
    if column == other_column:
        return "above" if row < other_row else "below"
    return f"{'upper' if row < other_row else 'lower'} {'left' if column < other_column else 'right'}"


def relations(rows: int, columns: int) -> tuple[str, ...]:
    """All relations that two pieces of a grid can have; in a single row or column there are two."""
    if rows == 1:
        return STRAIGHT[:2]
    return STRAIGHT[2:] if columns == 1 else STRAIGHT + DIAGONAL


def relation_chances(rows: int, columns: int) -> dict[str, float]:
    """How often each relation is the true one: a diagonal of 2x2 half as often as a straight one."""
    size = rows * columns
    pairs = size * (size - 1)
    beside, above = rows * math.comb(columns, 2), columns * math.comb(rows, 2)
    counts = dict(zip(STRAIGHT, (beside, beside, above, above), strict=True))
    counts |= dict.fromkeys(DIAGONAL, math.comb(rows, 2) * math.comb(columns, 2))
    return {name: counts[name] / pairs for name in relations(rows, columns)}


def ask(
    question: Question, rows: int, columns: int, arrangement: Sequence[int], generator: random.Random, choices: int
) -> Asked:
    """Draw a question of any type but `box`, which needs the image's size.

    Args:
        question: Its type.
        rows: Of the grid.
        columns: Of the grid.
        arrangement: Of the puzzle.
        generator: Of all that is drawn.
        choices: Arrangements to choose from in `multiple`; fewer where the grid has no more.
    """
    size = rows * columns
    if question == "pair":
        cells = tuple(generator.sample(range(1, size + 1), 2))
        true = relation(arrangement[cells[0] - 1], arrangement[cells[1] - 1], columns)
        return Asked(question, cells, *_lettered(true, relations(rows, columns), generator))
    if question == "multiple":
        true_one = tuple(arrangement)
        offered = {true_one}
        while len(offered) < min(choices, math.factorial(size)):
            offered.add(tuple(shuffled(generator, size)))
        return Asked(question, (), *_lettered(true_one, sorted(offered), generator))
    if question == "single":
        cell = generator.randint(1, size)
        return Asked(question, (cell,), (), arrangement[cell - 1])
    return Asked(question, (), (), list(arrangement))


def place_patches(
    generator: random.Random, width: int, height: int, rows: int, columns: int
) -> tuple[list[Box], list[int], int]:
    """One patch in each region, all of one size, and their exchange.

    Args:
        generator: Of all that is drawn.
        width: Of the trimmed image.
        height: Likewise.
        rows: Of the grid of regions.
        columns: Likewise.

    Returns:
        The boxes, by region; for each the number of the one whose patch it shows; and the region that is asked about,
        which never shows its own.
    """
    wide, tall = width // columns, height // rows
    size = rows * columns
    patch_wide, patch_tall = (max(1, int(side * generator.uniform(*PATCH_SIDE))) for side in (wide, tall))
    boxes: list[Box] = []
    for row in range(rows):
        for column in range(columns):
            left = column * wide + generator.randint(0, wide - patch_wide)
            top = row * tall + generator.randint(0, tall - patch_tall)
            boxes.append((left, top, left + patch_wide, top + patch_tall))
    region = generator.randint(1, size)
    shown = shuffled(generator, size)
    while shown[region - 1] == region:
        shown = shuffled(generator, size)
    return boxes, shown, region


def _lettered(true: Any, options: Sequence[Any], generator: random.Random) -> tuple[tuple[Any, ...], str]:
    """Options in an order of their own, and the letter of the true one, which is uniform."""
    order = generator.sample(list(options), len(options))
    place, there = generator.randrange(len(order)), order.index(true)
    order[place], order[there] = order[there], order[place]
    return tuple(order), LETTERS[place]
