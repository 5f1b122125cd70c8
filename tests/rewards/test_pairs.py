"""Designs and slots."""

import random
from collections import Counter
from itertools import combinations

import pytest

from rlrules.rewards.pairs import Pair, balanced, designed, shown


def degrees(pairs: tuple[Pair, ...]) -> set[int]:
    return set(Counter(node for pair in pairs for node in pair).values())


def connected(pairs: tuple[Pair, ...], count: int) -> bool:
    reached = {0}
    for _ in range(count):
        reached |= {node for pair in pairs if reached & set(pair) for node in pair}
    return len(reached) == count


def test_all_and_anchor() -> None:
    assert designed("all", 4) == ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    assert designed("anchor", 4) == ((0, 1), (0, 2), (0, 3))
    assert designed("all", 1) == designed("anchor", 1) == ()


@pytest.mark.parametrize("count", range(3, 20))
@pytest.mark.parametrize("degree", range(2, 8))
def test_circulants_are_regular_and_connected(degree: int, count: int) -> None:
    if degree < count - 1 and degree % 2 and count % 2:
        with pytest.raises(ValueError, match=f"take circulant-{degree - 1} or circulant-{degree + 1}"):
            designed(f"circulant-{degree}", count)
        return
    pairs = designed(f"circulant-{degree}", count)
    assert all(i < j for i, j in pairs) and len(set(pairs)) == len(pairs)
    assert degrees(pairs) == {min(degree, count - 1)}
    assert len(pairs) == count * min(degree, count - 1) // 2
    assert connected(pairs, count)


def test_circulants_that_are_known() -> None:
    assert designed("circulant-2", 4) == ((0, 1), (0, 3), (1, 2), (2, 3))  # T8's ring.
    assert designed("circulant-3", 4) == designed("circulant-9", 4) == designed("all", 4)
    assert len(designed("circulant-4", 16)) == 32


@pytest.mark.parametrize(
    ("design", "count", "message"),
    [
        ("circulant-1", 4, "unconnected pairs; take circulant-2"),
        ("circulant-x", 4, "no design 'circulant-x'"),
        ("ring", 4, "no design 'ring'"),
    ],
)
def test_designs_that_are_refused(design: str, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        designed(design, count)


@pytest.mark.parametrize("design", ["all", "anchor", "circulant-2", "circulant-3", "circulant-4"])
@pytest.mark.parametrize("count", [2, 4, 8, 16])
def test_slots_are_balanced(design: str, count: int) -> None:
    pairs = designed(design, count)
    for seed in range(20):
        directed = balanced(pairs, random.Random(seed))
        assert sorted((min(pair), max(pair)) for pair in directed) == list(pairs)
        as_a, as_b = (Counter(pair[slot] for pair in directed) for slot in (0, 1))
        assert all(abs(as_a[node] - as_b[node]) <= 1 for node in range(count))
        even = [node for node in range(count) if (as_a[node] + as_b[node]) % 2 == 0]
        assert all(as_a[node] == as_b[node] for node in even)


def test_either_direction_of_a_pair_is_as_likely() -> None:
    pairs = designed("all", 4)
    first = Counter(pair for seed in range(2000) for pair in balanced(pairs, random.Random(seed)))
    # Three standard errors of 2,000 tosses.
    assert all(abs(first[pair] - 1000) < 3 * 22.4 for pair in pairs)


def test_orders() -> None:
    pairs = designed("all", 3)
    assert shown(pairs, "fixed", random.Random(0)) == pairs
    assert shown(pairs, "both", random.Random(0)) == ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1))
    drawn = shown(pairs, "random", random.Random(7))
    assert drawn == shown(pairs, "random", random.Random(7)) == tuple(sorted(drawn))
    assert {tuple(sorted(pair)) for pair in drawn} == set(combinations(range(3), 2))


def test_parts_are_balanced_each_for_itself() -> None:
    # What is left of a design where identical completions are not asked about.
    directed = balanced([(0, 1), (2, 3), (3, 4), (2, 4)], random.Random(3))
    as_a, as_b = (Counter(pair[slot] for pair in directed) for slot in (0, 1))
    assert all(as_a[node] == as_b[node] for node in (2, 3, 4))
    assert len(directed) == 4
