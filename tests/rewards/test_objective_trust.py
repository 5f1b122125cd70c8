"""Trust-GRPO's combination, against numbers computed apart from this package."""

import json
import math
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rlrules.errors import TrainingError
from rlrules.rewards.advantages import advantages
from rlrules.rewards.engine import RewardEngine, ScoredGroup, totals
from rlrules.rewards.objective_trust import MEMORY, SPARED, Trust, TrustConfig
from rlrules.rewards.trust import coefficient, sides
from rlrules.types import Completion, Group, Progress, Score, Scored

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/trust_grpo.json").read_text("utf-8"))
GROUPS = {case["name"]: case for case in GOLDEN["groups"]}
UNIT = st.floats(0, 1, allow_nan=False)


class Given:
    """Scores groups by the lists in their row, and remembers which it was asked about."""

    def __init__(self, column: str) -> None:
        self.column = column
        self.asked: list[str] = []

    async def score(self, group: Group) -> Scored:
        self.asked.append(str(group.row["id"]))
        details = {"kind": group.row["kind"]} if self.column == "outcome" else {}
        malformed = group.row["malformed"]
        return Scored(
            tuple(
                Score.unscored("the judge is down")
                if value is None
                else Score(value, "malformed" if number in malformed else "ok", details=details)
                for number, value in enumerate(group.row[self.column])
            )
        )


def group_of(
    outcome: list[Any], thinking: list[Any], malformed: Any = (), step: int = 300, total: int = 1500, **row: Any
) -> Group:
    completions = tuple(Completion(f"text {number}", 1) for number in range(len(outcome)))
    row = {"id": "a", "kind": "numerical", **row}
    row |= {"outcome": outcome, "thinking": thinking, "malformed": malformed}
    return Group(({"role": "user", "content": "?"},), completions, row, Progress(step, total))


def engine_of(**config: Any) -> tuple[RewardEngine, Given]:
    section = TrustConfig(outcome="right", thinking="thought", **config)
    thinking = Given("thinking")
    return RewardEngine({"thought": thinking, "right": Given("outcome")}, section.build(), ["right"], 10), thinking


def scored(engine: RewardEngine, *groups: Group) -> list[ScoredGroup]:
    made = engine.score(groups)
    return engine.settle(made, totals(made))


def golden_group(case: dict[str, Any]) -> Group:
    # A completion that is malformed was not judged, whatever else is said of it.
    return group_of(case["outcome"], case["thinking"], case["malformed"], case["step"], case["total_steps"])


def normalised(rewards: Any, epsilon: float) -> list[float]:
    return [(reward - mean(rewards)) / (stdev(rewards) + epsilon) for reward in rewards]


@pytest.mark.parametrize("name", GROUPS)
def test_the_golden_groups(name: str) -> None:
    case = GROUPS[name]
    engine, _ = engine_of(**case.get("config", {}))
    (made,) = scored(engine, golden_group(case))
    for reward, expected in zip(made.outcome.rewards, case["rewards"], strict=True):
        assert expected is None or reward == pytest.approx(expected, abs=GOLDEN["tolerance"])
    for metric in ("gamma", "coefficient", "gap"):
        if metric in case:
            assert made.outcome.metrics[metric] == pytest.approx(case[metric], abs=GOLDEN["tolerance"])
    if "advantages" in case:
        assert normalised(made.outcome.rewards, GOLDEN["advantage_epsilon"]) == pytest.approx(
            case["advantages"], abs=GOLDEN["tolerance"]
        )
    assert made.blanked == (False,) * len(case["outcome"])


def test_trl_s_advantages_of_the_untrusted_group() -> None:
    told = GOLDEN["trl_epsilon"]
    (made,) = scored(engine_of()[0], golden_group(GROUPS[told["case"]]))
    found = advantages([made.outcome.rewards])[0].tolist()
    assert found == pytest.approx(told["advantages"], abs=1e-5) and sum(found) == pytest.approx(0, abs=1e-9)


def test_a_malformed_answer_counted_as_0_would_give_other_numbers() -> None:
    case = GROUPS["11 one malformed"]
    counted = [0.0 if value is None else value for value in case["thinking"]]
    (made,) = scored(engine_of()[0], group_of(case["outcome"], counted, (), case["step"]))
    assert made.outcome.metrics["gamma"] == 1 and made.outcome.metrics["coefficient"] == pytest.approx(
        0.222245, abs=1e-5
    )


@pytest.mark.parametrize(("step", "expected"), GOLDEN["schedule"])
def test_the_schedule(step: int, expected: float) -> None:
    assert coefficient(0.3, step, 1500) == pytest.approx(expected, abs=1e-6)
    (made,) = scored(engine_of(horizon=1500)[0], group_of([1, 0], [1, 1], step=step, total=7))
    assert made.outcome.metrics["annealed"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("outcome", [1.0, 0.0, 0.93])
def test_saturated_groups_are_not_judged(outcome: float) -> None:
    engine, thinking = engine_of()
    mixed = group_of([1, 0], [0.5, 0.5], id="mixed")
    made = scored(engine, group_of([outcome] * 6, [0.9, 0.6, 0.3] * 2, id="same"), mixed)
    assert thinking.asked == ["mixed"]
    assert made[0].outcome.rewards == (outcome,) * 6 and advantages([made[0].outcome.rewards])[0].tolist() == [0.0] * 6
    assert made[0].outcome.metrics == {"saturated": 1.0, "judged": 0.0, "annealed": pytest.approx(0.245619, abs=1e-6)}
    assert made[0].reasons(0) == {"thought": SPARED} and made[0].record(0)["scores"] == {
        "thought": None,
        "right": outcome,
    }
    assert made[1].outcome.metrics["saturated"] == 0


def test_a_narrow_spread_is_saturated_and_a_wide_one_is_not() -> None:
    engine, thinking = engine_of()
    scored(engine, group_of([0.5, 0.54], [0.1, 0.9], id="narrow"), group_of([0.5, 0.56], [0.1, 0.9], id="wide"))
    assert thinking.asked == ["wide"]


def test_why_saturated_groups_get_none_of_it() -> None:
    told = GOLDEN["scale_invariance"]
    for size, expected in told["first_advantage"]:
        rewards = [o + size * t for o, t in zip(told["outcome"], told["thinking"], strict=True)]
        assert normalised(rewards, GOLDEN["advantage_epsilon"])[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("correct", GOLDEN["noise"]["mean_gamma"])
def test_a_judge_of_pure_noise_keeps_most_of_its_weight(correct: str) -> None:
    told, groups = GOLDEN["noise"], 4000
    shares = np.array(told["levels"]) / sum(told["levels"])
    grades = np.random.default_rng(0).choice(np.arange(11) / 10, p=shares, size=(groups, told["group"]))
    outcomes = (np.arange(told["group"]) < int(correct)).astype(float)
    gammas = np.array([sides(outcomes, row).gamma for row in grades])
    assert gammas.mean() == pytest.approx(told["mean_gamma"][correct], abs=4 * gammas.std() / groups**0.5)
    low, high = told["share_below_one"]
    assert low - 0.03 < (gammas < 1 - 1e-12).mean() < high + 0.03


@pytest.mark.parametrize("correct", GOLDEN["noise"]["slopes"])
def test_what_one_grade_moves_an_advantage_by(correct: str) -> None:
    outcomes = [1.0] * int(correct) + [0.0] * (8 - int(correct))
    for step, expected in zip((0, 1500), GOLDEN["noise"]["slopes"][correct], strict=True):
        size = coefficient(0.3, step, 1500)
        # All graded alike but the last, a wrong one, and by next to nothing: the spread stays that of the outcomes.
        nudged = [outcome + size * (0.5 + 1e-6 * (place == 7)) for place, outcome in enumerate(outcomes)]
        found = normalised(nudged, 0)
        assert (found[7] - found[6]) / 1e-6 == pytest.approx(expected, abs=6e-4)


@given(st.lists(st.tuples(UNIT, UNIT, st.booleans()), min_size=2, max_size=8), st.integers(1, 1500))
def test_bounds(rows: list[tuple[float, float, bool]], step: int) -> None:
    outcome, thinking = [row[0] for row in rows], [row[1] for row in rows]
    malformed = [number for number, row in enumerate(rows) if row[2]]
    outcome = [0.0 if number in malformed else value for number, value in enumerate(outcome)]
    (made,) = scored(engine_of()[0], group_of(outcome, thinking, malformed, step))
    metrics = made.outcome.metrics
    if "gamma" in metrics:
        assert math.exp(-1) - 1e-12 <= metrics["gamma"] <= 1
    for number, reward in enumerate(made.outcome.rewards):
        assert reward is not None and outcome[number] <= reward <= outcome[number] + 0.3
        assert number not in malformed or reward == 0
    assert -1 - 1e-9 <= metrics.get("correlation", 0) <= 1 + 1e-9


@given(st.lists(st.tuples(st.booleans(), UNIT), min_size=2, max_size=8))
def test_no_wrong_answer_overtakes_a_right_one(rows: list[tuple[bool, float]]) -> None:
    outcome = [float(right) for right, _ in rows]
    (made,) = scored(engine_of()[0], group_of(outcome, [value for _, value in rows], step=1))
    right = [
        reward for reward, value in zip(made.outcome.rewards, outcome, strict=True) if value and reward is not None
    ]
    wrong = [
        reward for reward, value in zip(made.outcome.rewards, outcome, strict=True) if not value and reward is not None
    ]
    assert not right or not wrong or min(right) > max(wrong)


def test_equal_means_are_trusted() -> None:
    (made,) = scored(engine_of()[0], group_of([1, 0], [0.6, 0.6]))
    assert made.outcome.metrics["gamma"] == 1 and made.outcome.metrics["inverted"] == 0


def test_what_is_logged() -> None:
    engine, _ = engine_of()
    graded, right = GROUPS["8 graded"], GROUPS["5 all correct"]
    first, second = scored(engine, golden_group(graded), golden_group(right))
    metrics = first.outcome.metrics
    # The gamma that is logged is the one that was applied.
    applied = (first.outcome.rewards[0] - 1) / (0.3 * math.exp(-600 / 1500) * 0.5)  # type: ignore[operator]
    assert metrics["gamma"] == pytest.approx(applied)
    assert metrics["thinking_correct"] == pytest.approx(0.5) and metrics["thinking_wrong"] == pytest.approx(0.8)
    assert (metrics["judged"], metrics["failed"], metrics["saturated"], metrics["inverted"]) == (1, 0, 0, 1)
    assert not {"gamma", "gap", "coefficient", "failed", "correlation"} & set(second.outcome.metrics)


def test_the_correlation_is_over_the_batch_and_within_groups() -> None:
    # Deviations from the group's mean: outcome .5 -.5 | .5 -.5, thinking .1 -.1 | -.2 .2.
    made = scored(engine_of()[0], group_of([1, 0], [0.9, 0.7]), group_of([1, 0], [0.1, 0.5]))
    squares, others, products = 1.0, 0.1, 0.1 - 0.2
    for one in made:
        assert one.outcome.metrics["correlation"] == pytest.approx(products / math.sqrt(squares * others))


def test_a_missing_outcome_leaves_a_completion_out() -> None:
    (made,) = scored(engine_of()[0], group_of([1, None, 0], [0.2, 1.0, 0.6]))
    assert made.outcome.rewards[1] is None and made.blanked == (False, True, False)
    assert made.outcome.metrics["gap"] == pytest.approx(-0.4)


def test_one_sided_groups_go_by_the_running_trust_of_their_kind() -> None:
    engine, _ = engine_of()
    inverted = [group_of([1, 0], [0.0, 1.0], kind="ocr") for _ in range(4)]
    one_sided = group_of([0.45, 0.05], [0.2, 0.9], kind="ocr")
    batch = totals(engine.score([*inverted, one_sided]))
    assert scored(engine, one_sided)[0].outcome.metrics["gamma"] == 1
    engine.learn(batch)
    # Four groups of gamma 1/e each; the one-sided group has none of its own.
    kept = math.exp(-4 / MEMORY)
    expected = kept + (1 - kept) * math.exp(-1)
    assert scored(engine, one_sided)[0].outcome.metrics["gamma"] == pytest.approx(expected)
    other = group_of([0.45, 0.05], [0.2, 0.9], kind="free_form")
    assert scored(engine, other)[0].outcome.metrics["gamma"] == 1
    # Whoever splits the groups over ranks or batches learns the same.
    apart, _ = engine_of()
    for one in inverted:
        apart.learn(totals(apart.score([one])))
    assert scored(apart, one_sided)[0].outcome.metrics["gamma"] == pytest.approx(expected)


def test_scoring_alone_learns_nothing_and_a_state_is_carried_on() -> None:
    engine, _ = engine_of()
    inverted = group_of([1, 0], [0.0, 1.0])
    scored(engine, inverted)
    fresh = TrustConfig(outcome="right", thinking="thought").build()
    assert isinstance(engine.objective, Trust) and engine.objective.state() == fresh.state()
    engine.learn(totals(engine.score([inverted])))
    fresh.restore(json.loads(json.dumps(engine.objective.state())))
    assert fresh.state() == engine.objective.state() != TrustConfig(outcome="a", thinking="b").build().state()
    engine.learn(())
    with pytest.raises(TrainingError, match="no running trust"):
        fresh.restore({"gamma": {"ocr": 1}})


def test_what_is_refused() -> None:
    with pytest.raises(ValidationError, match="must be two rewards"):
        TrustConfig(outcome="a", thinking="a")
    with pytest.raises(ValidationError):
        TrustConfig(outcome="a", thinking="b", horizon=0)
