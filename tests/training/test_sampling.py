"""Sampling by domain: the paper's numbers, whole prompts out of weights, passes, states."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from rlrules.errors import TrainingError
from rlrules.recipe.sampling import AnySamplingConfig, DomainAwareConfig
from rlrules.rewards.engine import ScoredGroup
from rlrules.rewards.objective_base import Outcome
from rlrules.training.domain_weights import DomainAware, apportion, capped
from rlrules.training.sampling import DomainSampler, Signal
from rlrules.types import Completion, Group, Progress, Score, Scored

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/rule_reasoner.json").read_text())
DOMAINS = GOLDEN["domains"]
START = Progress()


def sampler(type_: str, sizes: dict[str, int], prompts: int, seed: int = 0, **section: Any) -> DomainSampler:
    rows = [{"domain": domain} for domain, size in sizes.items() for _ in range(size)]
    section = {"type": type_} | ({"signal": "right"} if type_ == "domain_aware" else {}) | section
    return DomainSampler(TypeAdapter[Any](AnySamplingConfig).validate_python(section), rows, prompts, seed)


def drawn(made: DomainSampler, progress: Progress = START) -> dict[str, int]:
    """Prompts by domain of the next rollout, by its rows and by what it logs."""
    rows = made.draw(progress)
    firsts = np.cumsum([0, *(size for _, size in made.state()["domains"])])
    found = {
        domain: int(((first <= np.array(rows)) & (np.array(rows) < last)).sum())
        for domain, first, last in zip(made.domains, firsts, firsts[1:], strict=False)
    }
    logged = made.learn([])
    assert found == {domain: logged[f"domains/{domain}/count"] for domain in made.domains}
    return found


def test_the_paper_s_rule() -> None:
    rule = DomainAware(8, DomainAwareConfig(signal="a"))
    assert np.allclose(rule.weights(START), 1 / 8, atol=1e-15)
    for step in GOLDEN["steps"]:
        rule.learn(dict(enumerate(step["means"])))
        assert rule.smoothed == pytest.approx(step["smoothed"], abs=1e-12)
        assert rule.weights(START) == pytest.approx(step["weights"], abs=5e-5)
        if "counts" in step:
            assert apportion(rule.weights(START), GOLDEN["prompts"], 1, [0] * 8) == step["counts"]


def test_temperature_floor_and_epsilon() -> None:
    means = dict(enumerate(GOLDEN["steps"][0]["means"]))
    for case in GOLDEN["other_temperatures"]:
        rule = DomainAware(8, DomainAwareConfig(signal="a", temperature=case["temperature"]))
        rule.learn(means)
        found = dict(zip(DOMAINS, rule.weights(START), strict=True))
        assert found["ar_lsat"] == pytest.approx(case["ar_lsat"], abs=5e-5)
        assert found["prontoqa"] == pytest.approx(case["prontoqa"], abs=5e-5)
    for temperature, floor in GOLDEN["floors"].items():
        rule = DomainAware(8, DomainAwareConfig(signal="a", temperature=float(temperature), alpha=0))
        rule.learn({0: 1.0} | dict.fromkeys(range(1, 8), 0.0))
        assert rule.weights(START)[0] == pytest.approx(floor, abs=5e-6)
    even = DomainAware(8, DomainAwareConfig(signal="a", epsilon=5))
    even.learn(means)
    paper = GOLDEN["steps"][0]["weights"]
    assert np.ptp(even.weights(START)) < 0.5 * np.ptp(paper), "epsilon stands outside the exponential"


def test_smoothing_starts_at_zero_and_keeps_what_it_did_not_see() -> None:
    rule = DomainAware(2, DomainAwareConfig(signal="a"))
    for expected in GOLDEN["zero_start"]["smoothed"]:
        rule.learn({0: GOLDEN["zero_start"]["mean"]})
        assert rule.smoothed == [pytest.approx(expected), 0.0]
    rule.learn({1: 0.5})
    assert rule.smoothed == [pytest.approx(expected), 0.25]
    assert (rule.weights(START) > 0).all()


def test_signals_far_from_the_paper_s_do_not_overflow() -> None:
    rule = DomainAware(3, DomainAwareConfig(signal="a", alpha=0, epsilon=0))
    rule.learn({0: -1e6, 1: -1e6, 2: 1e6})
    assert rule.weights(START) == pytest.approx([0.5, 0.5, 0.0], abs=1e-15)


def test_a_solved_domain_keeps_its_minimum_at_any_temperature() -> None:
    for bound in (None, 0.9):
        made = sampler("domain_aware", {"easy": 9, "hard": 9}, 20, alpha=0, temperature=1e-3, max_weight=bound)
        made.draw(START)
        made.learn([Signal("easy", 1.0, False), Signal("hard", 0.0, False)])
        assert drawn(made) == ({"easy": 1, "hard": 19} if bound is None else {"easy": 2, "hard": 18})


def test_a_bounded_domain_leaves_the_rest_to_the_others() -> None:
    case = GOLDEN["one_unsolved"]
    means = {0: 0.0} | dict.fromkeys(range(1, 8), 1.0)
    for bound, expected in ((None, case["uncapped"]), (case["cap"], case["cap"])):
        rule = DomainAware(8, DomainAwareConfig(signal="a", alpha=0, max_weight=bound))
        rule.learn(means)
        assert rule.weights(START)[0] == pytest.approx(expected, abs=5e-5)
        assert rule.weights(START)[1:] == pytest.approx([(1 - rule.weights(START)[0]) / 7] * 7)
    # What is cut off one may lift the next over the bound.
    assert capped(np.array([0.6, 0.3, 0.1]), 0.4) == pytest.approx([0.4, 0.4, 0.2])
    assert capped(np.array([1.0, 0.0, 0.0]), 0.5) == pytest.approx([0.5, 0.25, 0.25])


WEIGHTS = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=12)


@given(WEIGHTS, st.integers(1, 500))
def test_largest_remainder_by_its_definition(weights: list[float], seats: int) -> None:
    made = apportion(weights, seats, 0, [0] * len(weights))
    assert sum(made) == seats
    quotas = [weight / math.fsum(weights) * seats for weight in weights]
    up = [q - math.floor(q) for q, count in zip(quotas, made, strict=True) if count > q]
    down = [q - math.floor(q) for q, count in zip(quotas, made, strict=True) if count <= q]
    assert all(abs(q - count) < 1 + 1e-9 for q, count in zip(quotas, made, strict=True))
    assert min(up, default=1) >= max(down, default=0) - 1e-9


@given(WEIGHTS, st.integers(0, 5), st.integers(0, 300))
def test_every_domain_has_its_minimum(weights: list[float], minimum: int, more: int) -> None:
    seats = minimum * len(weights) + more
    made = apportion(weights, seats, minimum, [0] * len(weights))
    assert sum(made) == seats and min(made) >= minimum
    if min(free := apportion(weights, seats, 0, [0] * len(weights))) >= minimum:
        assert made == free, "a minimum that all have anyway changes nothing"


def test_equal_remainders_take_turns() -> None:
    made = sampler("uniform", {"a": 9, "b": 9, "c": 9}, prompts=4)
    assert [list(drawn(made).values()) for _ in range(3)] == [[2, 1, 1], [1, 2, 1], [1, 1, 2]]


def test_proportional_and_its_minimum() -> None:
    sizes = {"a": 90, "b": 9, "c": 1}
    assert drawn(sampler("proportional", sizes, prompts=20)) == {"a": 17, "b": 2, "c": 1}
    assert drawn(sampler("proportional", sizes, prompts=20, min_per_domain=0)) == {"a": 18, "b": 2, "c": 0}
    # There is not room for all, so that nothing is asked for each.
    assert drawn(sampler("proportional", sizes, prompts=2)) == {"a": 2, "b": 0, "c": 0}


def test_a_curriculum_opens_domains_in_order() -> None:
    made = sampler("curriculum", {"easy": 9, "hard": 9, "middle": 9}, 6, order=["easy", "middle", "hard"], open_by=0.6)
    opened = {step: drawn(made, Progress(step, 10)) for step in (1, 2, 3, 5, 10)}
    assert opened[1] == opened[2] == {"easy": 6, "hard": 0, "middle": 0}
    assert opened[3] == {"easy": 3, "hard": 0, "middle": 3}
    assert opened[5] == opened[10] == {"easy": 2, "hard": 2, "middle": 2}
    config = TypeAdapter[Any](AnySamplingConfig).validate_python({"type": "curriculum", "column": "depth"})
    by_number = DomainSampler(config, [{"depth": 10}, {"depth": 2}], 2, 0)
    assert by_number.domains == ["2", "10"]
    assert by_number.weights(Progress(1, 10)) == {"2": 1.0, "10": 0.0}


def test_nothing_comes_twice_before_all_came_once() -> None:
    case = GOLDEN["first_repeat"]
    made = sampler("uniform", {"clutrr": case["rows"]}, prompts=case["a_rollout"])
    seen: list[int] = []
    for draw in range(1, case["draw"] + 1):
        rows = made.draw(START)
        assert len(set(rows)) == len(rows), "a rollout has a row twice"
        repeated = set(rows) & set(seen)
        assert bool(repeated) == (draw == case["draw"])
        seen += rows
    assert set(seen) == set(range(case["rows"]))


@given(st.integers(1, 7), st.integers(1, 20), st.integers(0, 3))
def test_passes_are_whole_whatever_the_rollout(rows: int, prompts: int, seed: int) -> None:
    made = sampler("uniform", {"a": rows}, prompts, seed)
    rollouts = [made.draw(START) for _ in range(10)]
    for rollout in rollouts:
        times = Counter(rollout)
        assert max(times.values()) - min([times[row] for row in range(rows)]) <= 1
    for last in range(1, 11):
        total = Counter(row for rollout in rollouts[:last] for row in rollout)
        assert max(total.values()) - min(total[row] for row in range(rows)) <= 1


def scored(domain: str, *scores: Score) -> ScoredGroup:
    group = Group((), tuple(Completion("x", 1) for _ in scores), {"domain": domain})
    return ScoredGroup(group, {"right": Scored(scores)}, Outcome((0.0,) * len(scores)), (False,) * len(scores))


def test_a_rollout_s_signals_decide_on_the_next_one() -> None:
    made = sampler("domain_aware", {"easy": 50, "hard": 50}, prompts=20)
    assert drawn(made) == {"easy": 10, "hard": 10}
    groups = [scored("easy", Score(1.0), Score.unscored("no judge")), scored("hard", Score(0.0, "malformed", "?"))]
    metrics = made.learn(made.signals(groups))
    assert metrics == {
        "domains/easy/weight": 0.5,
        "domains/easy/count": 10.0,
        "domains/easy/reward": 1.0,
        "domains/easy/malformed": 0.0,
        "domains/hard/weight": 0.5,
        "domains/hard/count": 10.0,
        "domains/hard/reward": 0.0,
        "domains/hard/malformed": 1.0,
    }
    # By hand: means .5 and 0 give e^1 + .1 and e^2 + .1, of which 20 prompts are 5.466 and 14.534.
    assert made.weights(START)["easy"] == pytest.approx((math.e + 0.1) / (math.e + math.e**2 + 0.2), abs=1e-12)
    assert drawn(made) == {"easy": 5, "hard": 15}


def test_how_right_an_answer_is_counts_and_not_how_well_it_is_written() -> None:
    rows = [{"domain": "a"}]
    made = DomainSampler(DomainAwareConfig(signal="right"), rows, 1, 0, signal_metric="accuracy")
    written = (Score(0.0, metrics={"accuracy": 0.0}), Score(-1.0, "malformed", "no tags", {"accuracy": 0.0}))
    assert made.learn(made.signals([scored("a", *written)]))["domains/a/reward"] == 0.0


def test_ranks_that_hear_in_another_order_agree_to_the_last_bit() -> None:
    values = [Signal(DOMAINS[n % 8], 0.1 * (n % 7), False) for n in range(64)]
    ranks = [sampler("domain_aware", dict.fromkeys(DOMAINS, 40), prompts=16) for _ in range(2)]
    for made, told in zip(ranks, (values, values[::-1]), strict=True):
        made.draw(START)
        made.learn(told)
    assert ranks[0].weights(START) == ranks[1].weights(START)
    assert ranks[0].draw(START) == ranks[1].draw(START)


def test_saved_and_restored_goes_on_as_if_uninterrupted() -> None:
    sizes = {"a": 5, "b": 70, "c": 12}
    whole = sampler("domain_aware", sizes, prompts=11, seed=7)
    told = [[Signal(*one, False) for one in (("a", 0.3), ("b", 0.1 * step), ("c", 1.0))] for step in range(9)]
    for step in range(6):
        whole.draw(START)
        whole.learn(told[step])
    saved = json.dumps(whole.state())
    resumed = sampler("domain_aware", sizes, prompts=11, seed=7)
    resumed.restore(json.loads(saved))
    for step in range(6, 9):
        assert resumed.weights(START) == whole.weights(START)
        assert resumed.draw(START) == whole.draw(START)
        assert resumed.learn(told[step]) == whole.learn(told[step])
    assert json.dumps(whole.state()) != saved


def test_another_recipe_s_state_is_refused() -> None:
    made = sampler("domain_aware", {"a": 5, "b": 7}, prompts=4)
    with pytest.raises(TrainingError, match="other domains, or other numbers of rows"):
        made.restore(sampler("domain_aware", {"a": 5, "b": 8}, prompts=4).state())
    with pytest.raises(TrainingError, match=r"another `sampling\.type`"):
        made.restore(sampler("uniform", {"a": 5, "b": 7}, prompts=4).state())
