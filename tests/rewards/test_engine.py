"""Failures stay failures; counts in are counts out."""

import asyncio
import time

import pytest

from rlrules.errors import TrainingError
from rlrules.rewards import engine as engine_module
from rlrules.rewards.advantages import advantages
from rlrules.rewards.base import Context, PointwiseScorer
from rlrules.rewards.engine import RewardEngine
from rlrules.rewards.objective import GateConfig, WeightedSumConfig
from rlrules.types import Completion, Group, Score, Scored

PROMPT = ({"role": "user", "content": "?"},)


class Fixed:
    """Gives the same scores to every group."""

    def __init__(self, *values: float | None) -> None:
        self.values = values

    async def score(self, group: Group) -> Scored:
        return Scored(tuple(Score.unscored("judge is down") if v is None else Score(v) for v in self.values))


class Raising:
    async def score(self, group: Group) -> Scored:
        raise RuntimeError("broken")


class Slow:
    async def score(self, group: Group) -> Scored:
        await asyncio.sleep(60)
        raise AssertionError


class Blocking:
    async def score(self, group: Group) -> Scored:
        time.sleep(1.5)
        return Scored((Score(1.0),) * len(group.completions))


class OddFails(PointwiseScorer):
    async def score_one(self, context: Context, completion: Completion) -> Score:
        if completion.tokens % 2:
            raise ValueError("odd")
        return Score(float(completion.tokens))


def group(count: int = 4) -> Group:
    return Group(PROMPT, tuple(Completion(f"text {n}", n) for n in range(count)))


def run(scorers: dict[str, object], objective: object = None, required: object = None, deadline: float = 10) -> object:
    objective = objective or WeightedSumConfig(weights=dict.fromkeys(scorers, 1.0))
    required = list(scorers) if required is None else required
    return RewardEngine(scorers, objective.build(), required, deadline).score([group()])[0]  # type: ignore


def test_a_required_score_that_is_missing_blanks_the_row() -> None:
    scored = run({"a": Fixed(1, 2, 3, 4), "judge": Fixed(0.5, None, 0.5, 0.5)})
    assert scored.outcome.rewards == (1.5, None, 3.5, 4.5)
    assert scored.blanked == (False, True, False, False)
    assert scored.reasons(1) == {"judge": "judge is down"}
    made = advantages([scored.outcome.rewards])[0]
    assert made[1] == 0
    assert made[[0, 2, 3]].sum() == pytest.approx(0)


def test_equal_answers_stay_equal_when_an_optional_judge_fails() -> None:
    scored = run({"rule": Fixed(1, 1, 1, 1), "judge": Fixed(0.8, 0.8, None, 0.8)}, required=["rule"])
    assert scored.outcome.rewards == pytest.approx((1.8, 1.8, 1.8, 1.8))
    assert advantages([scored.outcome.rewards])[0] == pytest.approx([0, 0, 0, 0], abs=1e-9)


def test_an_optional_judge_missing_for_the_whole_group_does_not_count() -> None:
    scored = run({"rule": Fixed(1, 2, 3, 4), "judge": Fixed(None, None, None, None)}, required=["rule"])
    assert scored.outcome.rewards == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("scorer", "reason"),
    [(Raising(), "RuntimeError: broken"), (Fixed(1, 2, 3), "3 scores for 4 completions"), (Slow(), "no score within")],
)
def test_a_scorer_that_fails_leaves_all_unscored_with_the_reason(scorer: object, reason: str) -> None:
    scored = run({"a": Fixed(1, 2, 3, 4), "bad": scorer}, deadline=0.2)
    assert scored.outcome.rewards == (None,) * 4
    assert all(reason in scored.reasons(index)["bad"] for index in range(4))


def test_a_pointwise_failure_is_one_completions() -> None:
    scored = run({"a": OddFails()})
    assert scored.outcome.rewards == (0.0, None, 2.0, None)
    assert scored.reasons(1) == {"a": "ValueError: odd"}


def test_a_scorer_that_blocks_the_loop_cannot_hang_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "GRACE_S", 0.2)
    with pytest.raises(TrainingError, match="blocks the event loop"):
        run({"a": Blocking()}, deadline=0.2)


def test_gate() -> None:
    objective = GateConfig(gate="form", of="quality", threshold=1)
    scored = run({"form": Fixed(1, 0, 1, None), "quality": Fixed(0.3, 0.9, None, 0.5)}, objective)
    assert scored.outcome.rewards == (0.3, 0.0, None, None)
    assert scored.outcome.metrics["gate_passed"] == pytest.approx(2 / 3)


def test_normalised_sum_adds_standardised_scores() -> None:
    objective = WeightedSumConfig(weights={"a": 1, "b": 1}, normalize="group")
    scored = run({"a": Fixed(0, 1, 0, 1), "b": Fixed(0, 1000, 0, 1000)}, objective)
    rewards = scored.outcome.rewards
    assert rewards[1] == pytest.approx(-rewards[0])
    assert rewards[1] == pytest.approx(2 * 0.5 / (1 / 3) ** 0.5, rel=1e-3)


@pytest.mark.parametrize("normalize", ["none", "group"])
def test_what_is_blanked_has_no_say_in_its_siblings_rewards(normalize: str) -> None:
    objective = WeightedSumConfig(weights={"a": 1, "b": 1}, normalize=normalize)
    made = [run({"a": Fixed(1, 0, 1, None), "b": Fixed(0, 1, 2, extreme)}, objective) for extreme in (3, 100)]
    assert made[0].outcome.rewards[3] is None
    assert made[0].outcome.rewards == made[1].outcome.rewards


def test_many_groups_keep_their_order() -> None:
    engine = RewardEngine({"a": OddFails()}, WeightedSumConfig(weights={"a": 1}).build(), [], 10)
    groups = [Group(PROMPT, tuple(Completion("x", 2 * n) for _ in range(2))) for n in range(50)]
    scored = engine.score(groups)
    assert [one.outcome.rewards[0] for one in scored] == [2.0 * n for n in range(50)]
