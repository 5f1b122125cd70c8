"""What trust protects from, and what it does not: simulated judges through the objective that trains."""

import math
import random
import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rlrules.types import Group, Scored

SIZE = 8
TOTAL_STEPS = 1500
# Shares in percent of the levels 0.0, 0.1 … 1.0 among the annotated reasonings, read off the paper's histogram.
LEVELS = (24.7, 0.2, 3.4, 1.0, 3.8, 3.3, 4.6, 1.0, 24.0, 15.7, 18.4)

Judge = Callable[[random.Random, bool], float]


def trust(
    noise_groups: Annotated[
        int, typer.Option(help="Groups for each number of correct answers, judged at random.")
    ] = 200_000,
    groups: Annotated[int, typer.Option(help="Groups for each simulated judge.")] = 4000,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
) -> None:
    """Two tables: gamma under a judge that is pure noise, and advantages under good, noisy and inverted judges.

    Groups of 8 at the first of 1,500 steps. An answer is correct with probability 1/2; its outcome is 0 or 1, or
    graded: even over the half of the scale that it belongs to. The noisy judge draws from the paper's histogram,
    whatever it reads; the good one grades correct answers 0.75 and wrong ones 0.45 in the mean, with a deviation of
    0.2, rounded to tenths; the inverted one the other way round.
    """
    print(f"noise: {noise_groups:,} groups for each k")
    print("k of 8  mean gamma  gamma < 1  slope at step 0  at step T")
    for correct in (1, 2, 4, 6, 7):
        mean, below = noise(correct, noise_groups, seed)
        spread = statistics.stdev([1.0] * correct + [0.0] * (SIZE - correct))
        slopes = [0.3 * anneal / spread for anneal in (1.0, math.exp(-1.0))]
        print(f"{correct:6}  {mean:10.3f}  {below:9.3f}  {slopes[0]:15.3f}  {slopes[1]:9.3f}")
    print(f"\njudges: {groups:,} groups each, those with one side left out")
    print("outcomes  judge     trust  mean gamma  gamma < 1  right - wrong  of plain  slope among right  pairs kept")
    for graded in (False, True):
        for name, judge in {"good": good, "noisy": noisy, "inverted": inverted}.items():
            for on in (True, False):
                told = ablation(judge, on, graded, groups, seed)
                print(f"{'graded' if graded else 'binary':8}  {name:8}  {'on' if on else 'off':5}  {told}")


def noise(correct: int, groups: int, seed: int) -> tuple[float, float]:
    """Mean gamma and the share below 1 where a judge grades at random, with `correct` right answers of eight."""
    import numpy as np

    from rlrules.rewards.trust import sides

    generator = np.random.default_rng([seed, correct])
    grades = generator.choice(np.arange(11) / 10, p=np.array(LEVELS) / sum(LEVELS), size=(groups, SIZE))
    outcomes = np.array([1.0] * correct + [0.0] * (SIZE - correct))
    gammas = [sides(outcomes, row).gamma for row in grades]
    # Means that differ by rounding alone are equal.
    return statistics.fmean(gammas), sum(gamma < 1 - 1e-12 for gamma in gammas) / groups


def noisy(draws: random.Random, correct: bool) -> float:
    """Grades at random."""
    return draws.choices(range(11), LEVELS)[0] / 10


def good(draws: random.Random, correct: bool) -> float:
    """Grades the reasoning of correct answers higher, mostly."""
    return min(10, max(0, round(draws.gauss(7.5 if correct else 4.5, 2.0)))) / 10


def inverted(draws: random.Random, correct: bool) -> float:
    """Grades the reasoning of wrong answers higher, mostly."""
    return good(draws, not correct)


def ablation(judge: Judge, on: bool, graded: bool, groups: int, seed: int) -> str:
    """One row: what the objective and TRL's normalisation make of a judge's grades."""
    from rlrules.rewards.advantages import advantages
    from rlrules.rewards.objective_trust import TrustConfig

    draws = random.Random(seed)
    objective = TrustConfig(outcome="outcome", thinking="thinking", trust=on).build()
    columns: dict[str, list[float]] = {name: [] for name in ("gamma", "plain", "gap", "slope", "kept")}
    while len(columns["gamma"]) < groups:
        right = [draws.random() < 0.5 for _ in range(SIZE)]
        outcomes = [(one + draws.random()) / 2 if graded else float(one) for one in right]
        grades = [judge(draws, one) for one in right]
        if len(set(right)) < 2:
            continue
        made = objective.combine(_group(), _scored(outcomes, grades), [False] * SIZE)
        rewards = [reward for reward in made.rewards if reward is not None]
        plain, found = advantages([outcomes, rewards])
        columns["gamma"].append(made.metrics["gamma"])
        columns["plain"].append(_gap(plain.tolist(), right))
        columns["gap"].append(_gap(found.tolist(), right))
        # What an advantage owes to the judge alone: its share beyond that of the outcome.
        owed = [value - before for value, before in zip(found.tolist(), plain.tolist(), strict=True)]
        among = [(grade, value) for grade, value, one in zip(grades, owed, right, strict=True) if one]
        if len({grade for grade, _ in among}) > 1:
            columns["slope"].append(statistics.linear_regression(*zip(*among, strict=True)).slope)
        over, under = (_side(rewards, right, side) for side in (True, False))
        columns["kept"] += [float(better > worse) for better in over for worse in under]
    gamma, plain_gap, gap, slope, kept = (statistics.fmean(column) for column in columns.values())
    below = sum(value < 1 - 1e-12 for value in columns["gamma"]) / groups
    return f"{gamma:10.3f}  {below:9.3f}  {gap:13.3f}  {gap / plain_gap:8.1%}  {slope:17.3f}  {kept:10.1%}"


def _gap(values: list[float], right: list[bool]) -> float:
    return statistics.fmean(_side(values, right, True)) - statistics.fmean(_side(values, right, False))


def _side(values: list[float], right: list[bool], side: bool) -> list[float]:
    return [value for value, one in zip(values, right, strict=True) if one is side]


def _group() -> "Group":
    from rlrules.types import Completion, Group, Progress

    return Group(({"role": "user", "content": "?"},), (Completion("", 1),) * SIZE, {}, Progress(1, TOTAL_STEPS))


def _scored(outcomes: list[float], grades: list[float]) -> "dict[str, Scored]":
    from rlrules.types import Score, Scored

    return {
        "outcome": Scored(tuple(Score(outcome) for outcome in outcomes)),
        "thinking": Scored(tuple(Score(grade) for grade in grades)),
    }
