"""Which completions of a group are compared with which, and which of the two is shown first."""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Literal

Pair = tuple[int, int]
Order = Literal["both", "random", "fixed"]

DESIGN = r"^(all|anchor|circulant-[1-9]\d*)$"
"""What a design is called."""


def designed(design: str, count: int) -> tuple[Pair, ...]:
    """The pairs (i, j), i < j, that a design compares among `count` completions.

    Args:
        design: "all": every pair. "anchor": the first completion with each other one. "circulant-K": each completion
            with K others, count * K / 2 pairs, at distances spread evenly around the circle of indices; `all` where
            there are no more than K others.
        count: Completions in the group.

    Raises:
        ValueError: The design does not exist for this count, or is none.
    """
    if design == "anchor":
        return tuple((0, other) for other in range(1, count))
    degree = _degree(design, count)
    if degree >= count - 1:
        return tuple(combinations(range(count), 2))
    half = degree // 2
    # Distances near each other reach the far side of the circle late, and what is far apart is then ranked badly.
    steps = [1 + number * ((count - 1) // 2) // half for number in range(half)]
    if degree % 2:
        steps.append(count // 2)
    around = (((i + step) % count, i) for step in steps for i in range(count))
    return tuple(sorted({(min(pair), max(pair)) for pair in around}))


def _degree(design: str, count: int) -> int:
    name, _, number = design.partition("-")
    if design == "all":
        return count - 1
    if name != "circulant" or not number.isdecimal():
        raise ValueError(f"no design {design!r} (known: all, anchor, circulant-K)")
    degree = int(number)
    if degree < count - 1:
        if degree < 2:
            raise ValueError(f"design {design} leaves groups of {count} in unconnected pairs; take circulant-2 or more")
        if degree % 2 and count % 2:
            close = f"circulant-{degree - 1} or circulant-{degree + 1}"
            raise ValueError(
                f"design {design} does not exist for groups of {count}: an odd number of completions cannot have an "
                f"odd number of opponents each; take {close}"
            )
    return degree


def shown(pairs: Sequence[Pair], order: Order, generator: random.Random) -> tuple[Pair, ...]:
    """The comparisons (shown as A, shown as B) to ask for, those with the same A next to each other.

    Args:
        pairs: Unordered pairs (i, j), i < j.
        order: "both": each pair twice. "fixed": the lower index as A, so that the first completion always is.
            "random": by draw, each completion as A about as often as B.
        generator: Draws.
    """
    if order == "both":
        return tuple(sorted((*pairs, *((j, i) for i, j in pairs))))
    return tuple(sorted(pairs if order == "fixed" else balanced(pairs, generator)))


def balanced(pairs: Iterable[Pair], generator: random.Random) -> list[Pair]:
    """Each pair in one direction, drawn so that every index stands first as often as second, or once more or less.

    Either direction of a pair is equally likely.
    """
    # With one more node joined to all of odd degree, the edges fall into closed trails, and going along a trail
    # leaves each node as often as it enters it.
    joint = -1
    edges: list[Pair] = list(pairs)
    degrees: dict[int, int] = defaultdict(int)
    for node in (node for edge in edges for node in edge):
        degrees[node] += 1
    edges += [(joint, node) for node in sorted(degrees) if degrees[node] % 2]
    generator.shuffle(edges)
    open_at: dict[int, list[int]] = defaultdict(list)
    for number, edge in enumerate(edges):
        for node in edge:
            open_at[node].append(number)
    used: set[int] = set()
    directed: list[Pair] = []
    for number, (start, _) in enumerate(edges):
        if number in used:
            continue
        trail: list[Pair] = []
        node = start
        while (taken := _take_unused(open_at[node], used)) is not None:
            one, two = edges[taken]
            other = two if one == node else one
            trail.append((node, other))
            node = other
        turned = generator.random() < 0.5
        directed += [(b, a) for a, b in trail] if turned else trail
    return [pair for pair in directed if joint not in pair]


def _take_unused(numbers: list[int], used: set[int]) -> int | None:
    while numbers:
        number = numbers.pop()
        if number not in used:
            used.add(number)
            return number
    return None
