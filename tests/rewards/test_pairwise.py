"""Think-RM's section 4.2 and its acceptance numbers (T1 to T9)."""

import numpy as np
import pytest
from numpy.typing import NDArray

from rlrules.rewards.pairwise import Epsilon, Normalize, denominator, rank, scaled

Matrix = NDArray[np.float64]
# T1: a judge's scores, the lower index shown as A, negative where A is better.
SCORES = {(0, 1): -2, (0, 2): -3, (0, 3): -1, (1, 2): -1, (1, 3): 2, (2, 3): 3}


def matrix(size: int, strengths: dict[tuple[int, int], float]) -> Matrix:
    """Strengths d_ij of single pairs; the others are missing."""
    made = np.full((size, size), np.nan)
    np.fill_diagonal(made, 0.0)
    for (i, j), strength in strengths.items():
        made[i, j], made[j, i] = strength, -strength
    return made


def scored(left_out: tuple[tuple[int, int], ...] = ()) -> Matrix:
    return matrix(4, {pair: -score for pair, score in SCORES.items() if pair not in left_out})


def advantages(strengths: Matrix, normalize: Normalize, eps: Epsilon) -> Matrix:
    ranking = rank(strengths)
    by = 1.0 if normalize == "none" else denominator(ranking.squares, ranking.pairs, eps)
    return scaled(ranking.values, by)


def additive(rewards: list[float] | Matrix) -> Matrix:
    column = np.asarray(rewards, dtype=np.float64)
    return column[:, None] - column[None, :]


def test_t1_a_complete_group() -> None:
    ranking = rank(scored())
    assert ranking.values.tolist() == [1.5, -0.75, -1.75, 1.0]
    assert (ranking.pairs, 2 * ranking.squares) == (6, 56)
    assert denominator(ranking.squares, ranking.pairs, "paper") == pytest.approx(1.5275, abs=1e-4)
    made = advantages(scored(), "group", "paper")
    assert made == pytest.approx([0.9820, -0.4910, -1.1456, 0.6547], abs=1e-4)
    assert ranking.inconsistency == pytest.approx(0.0179, abs=1e-4)
    assert made.sum() == pytest.approx(0, abs=1e-12)
    exact = advantages(scored(), "group", "relative")
    assert (exact**2).sum() == pytest.approx(3 * (1 - ranking.inconsistency), abs=1e-12)
    assert (exact**2).sum() == pytest.approx(2.9464, abs=1e-4)


def test_t2_differences_of_rewards() -> None:
    rewards = [1.0, 0.0, -1.0, 2.0]
    made = advantages(additive(rewards), "group", "paper")
    assert made == pytest.approx([0.3873, -0.3873, -1.1619, 1.1619], abs=1e-4)
    assert rank(additive(rewards)).inconsistency == pytest.approx(0, abs=1e-15)


def test_t2_a_thousand_groups_equal_grpo() -> None:
    generator = np.random.default_rng(0)
    furthest = 0.0
    for _ in range(1000):
        rewards = generator.normal(size=generator.integers(2, 10)) * 10.0 ** generator.integers(-4, 3)
        expected = (rewards - rewards.mean()) / rewards.std(ddof=1)
        furthest = max(furthest, np.abs(advantages(additive(rewards), "group", "relative") - expected).max())
    assert furthest < 1e-9


def test_t3_a_cycle_and_ties() -> None:
    cycle = matrix(3, {(0, 1): 1, (1, 2): 1, (2, 0): 1})
    assert advantages(cycle, "group", "relative").tolist() == [0, 0, 0]
    assert rank(cycle).inconsistency == 1
    for eps in ("relative", "paper"):
        assert advantages(np.zeros((4, 4)), "group", eps).tolist() == [0, 0, 0, 0]
    assert np.isnan(rank(np.zeros((4, 4))).inconsistency)


@pytest.mark.parametrize(
    ("length", "paper"),
    [(1000, [0.6124, 0.2041, -0.2041, -0.6124]), (5000, [0.1485, 0.0495, -0.0495, -0.1485])],
)
def test_t4_inverse_lengths(length: int, paper: list[float]) -> None:
    ordered = matrix(4, dict.fromkeys(SCORES, 1 / length))
    assert advantages(ordered, "group", "paper") == pytest.approx(paper, abs=1e-4)
    relative = advantages(ordered, "group", "relative")
    assert relative == pytest.approx([1.0607, 0.3536, -0.3536, -1.0607], abs=1e-4)


@pytest.mark.parametrize(
    ("eps", "expected"),
    [("paper", [0.2011, -0.0800, -0.1334, 0.0123]), ("relative", [1.1652, -0.4637, -0.7729, 0.0713])],
)
def test_t5_inverse_lengths_that_differ(eps: Epsilon, expected: list[float]) -> None:
    lengths = {(0, 1): 4000, (0, 2): 6000, (0, 3): 2500, (1, 2): 8000, (1, 3): -5000, (2, 3): -4000}
    made = advantages(matrix(4, {pair: 1 / length for pair, length in lengths.items()}), "group", eps)
    assert made == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("score", [-1, -3])
def test_t6_in_groups_of_two_strength_means_nothing(score: int) -> None:
    made = advantages(matrix(2, {(0, 1): -score}), "group", "relative")
    assert made == pytest.approx([0.7071, -0.7071], abs=1e-4)
    assert advantages(matrix(2, {(0, 1): -score}), "none", "relative").tolist() == [-score / 2, score / 2]


def test_t7_a_missing_edge() -> None:
    ranking = rank(scored(left_out=((1, 3),)))
    assert ranking.values == pytest.approx([1.5, -0.625, -1.75, 0.875], abs=1e-12)
    assert denominator(ranking.squares, ranking.pairs, "paper") == pytest.approx(1.5492, abs=1e-4)
    made = advantages(scored(left_out=((1, 3),)), "group", "paper")
    assert made == pytest.approx([0.9682, -0.4034, -1.1296, 0.5648], abs=1e-4)


def test_t8_a_ring() -> None:
    ring = scored(left_out=((0, 2), (1, 3)))
    ranking = rank(ring)
    assert ranking.values == pytest.approx([1.625, -0.625, -1.875, 0.875], abs=1e-12)
    assert denominator(ranking.squares, ranking.pairs, "paper") == pytest.approx(1.3693, abs=1e-4)
    made = advantages(ring, "group", "paper")
    assert made == pytest.approx([1.1867, -0.4564, -1.3693, 0.6390], abs=1e-4)


def test_t8_least_squares_on_a_complete_graph_are_row_means() -> None:
    generator = np.random.default_rng(1)
    for size in range(2, 10):
        upper = np.triu(generator.normal(size=(size, size)), 1)
        strengths = upper - upper.T
        laplacian = size * np.eye(size) - 1
        solved = np.linalg.solve(laplacian + 1 / size, strengths.sum(axis=1))
        assert rank(strengths).values == pytest.approx(solved, abs=1e-9)


def test_t9_a_constant_preference_for_a_slot() -> None:
    always_a = matrix(4, dict.fromkeys(SCORES, 1.0))
    made = advantages(always_a, "group", "relative")
    assert made == pytest.approx([1.0607, 0.3536, -0.3536, -1.0607], abs=1e-4)
    shifted = matrix(4, {pair: min(3, -score + 1) for pair, score in SCORES.items()})
    made = advantages(shifted, "group", "paper")
    assert made == pytest.approx([1.2443, -0.3111, -1.0888, 0.1555], abs=1e-4)


def test_least_squares_by_numpy_itself() -> None:
    generator = np.random.default_rng(2)
    for _ in range(50):
        size = int(generator.integers(3, 9))
        upper = np.triu(generator.normal(size=(size, size)), 1)
        strengths = upper - upper.T
        # A path keeps it connected, of the other edges half are missing.
        gone = np.triu(generator.random((size, size)) < 0.5, 2)
        strengths[gone | gone.T] = np.nan
        edges = [(i, j) for i in range(size) for j in range(i + 1, size) if np.isfinite(strengths[i, j])]
        design = np.array([[(k == i) - (k == j) for k in range(size)] for i, j in edges], dtype=float)
        target = np.array([strengths[pair] for pair in edges])
        expected, *_ = np.linalg.lstsq(design, target, rcond=None)
        ranking = rank(strengths)
        assert ranking.values == pytest.approx(expected, abs=1e-9)
        assert ranking.residual == pytest.approx(((design @ expected - target) ** 2).sum(), abs=1e-9)
        assert 0 <= ranking.inconsistency <= 1


def test_only_the_largest_part_is_ranked() -> None:
    parts = matrix(6, {(0, 3): 1, (1, 2): 1, (2, 4): 1})
    assert rank(parts).values == pytest.approx([np.nan, 1, 0, np.nan, -1, np.nan], nan_ok=True)
    tie = rank(matrix(5, {(0, 4): 2, (1, 2): 7}))
    assert tie.values == pytest.approx([1, np.nan, np.nan, np.nan, -1], nan_ok=True)
    assert (tie.pairs, tie.squares) == (1, 4)


@pytest.mark.parametrize("size", [0, 1, 3])
def test_without_a_comparison_nothing_is_ranked(size: int) -> None:
    ranking = rank(matrix(size, {}))
    assert np.isnan(ranking.values).all() and len(ranking.values) == size
    assert np.isnan(advantages(matrix(size, {}), "group", "relative")).all()


def test_an_edge_needs_both_directions() -> None:
    half = scored()
    half[3, 1] = np.nan
    assert rank(half).values == pytest.approx(rank(scored(left_out=((1, 3),))).values)


def test_a_batch_shares_one_denominator() -> None:
    decided, close = rank(matrix(2, {(0, 1): 3.0})), rank(matrix(2, {(0, 1): 1.0}))
    shared = denominator(decided.squares + close.squares, decided.pairs + close.pairs, "relative")
    assert shared == pytest.approx(np.sqrt(10 / 2 / 2))
    assert scaled(decided.values, shared)[0] == pytest.approx(3 * scaled(close.values, shared)[0])
