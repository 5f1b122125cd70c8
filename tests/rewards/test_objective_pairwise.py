"""The pairwise objective: what stays at zero sum, what is mixed in, what is left out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from rlrules.rewards.advantages import advantages
from rlrules.rewards.engine import RewardEngine, ScoredGroup, summed, totals
from rlrules.rewards.objective_pairwise import PairwiseConfig
from rlrules.rewards.pairwise import rank
from rlrules.types import Comparisons, Completion, Group, Score, Scored
from tests.rewards.test_engine import Fixed
from tests.rewards.test_pairwise import Matrix, additive, matrix, scored

T1 = [0.9820, -0.4910, -1.1456, 0.6547]


class Compares:
    """Gives the same comparisons to every group, or those of the group's row."""

    def __init__(self, strengths: Matrix | None = None) -> None:
        self.strengths = strengths

    async def score(self, group: Group) -> Scored:
        strengths = group.row["strengths"] if self.strengths is None else self.strengths
        ranked = rank(strengths).values.tolist()
        scores = tuple(Score.unscored("no comparison") if np.isnan(one) else Score(one) for one in ranked)
        return Scored(scores, Comparisons(strengths), {"kappa": 0.5})


def group(size: int = 4, **row: Any) -> Group:
    return Group(({"role": "user", "content": "?"},), tuple(Completion(f"text {n}", n) for n in range(size)), row)


def run(
    scorers: dict[str, Any], required: Sequence[str] = (), groups: Sequence[Group] = (), **fields: Any
) -> list[ScoredGroup]:
    fields = {"weights": dict.fromkeys(scorers, 1.0), **fields}
    engine = RewardEngine(scorers, PairwiseConfig(**fields).build(), required, 10)
    made = engine.score(groups or [group()])
    return engine.settle(made, totals(made))


def rewards(**options: Any) -> Any:
    return run(**options)[0].outcome.rewards


def test_t1_and_its_metrics() -> None:
    [made] = run({"pref": Compares(scored())}, eps="paper")
    assert made.outcome.rewards == pytest.approx(T1, abs=1e-4)
    assert made.outcome.metrics["kappa"] == pytest.approx(0.0179, abs=1e-4)
    assert made.outcome.metrics["den"] == pytest.approx(1.5275, abs=1e-4)
    assert made.outcome.metrics["advantage_std"] == pytest.approx(np.sqrt(2.9464 / 4), abs=1e-4)


def test_t12_what_trl_makes_of_it() -> None:
    made = rewards(scorers={"pref": Compares(scored())}, eps="paper")
    assert advantages([made], "none")[0] == pytest.approx(made, abs=1e-12)
    assert advantages([made], "group")[0] == pytest.approx([0.9908, -0.4954, -1.1559, 0.6605], abs=1e-4)


def test_t11_groups_do_not_meet() -> None:
    other = additive([3, 1, 2, 0])
    groups = [group(strengths=scored()), group(strengths=other)]
    made = run({"pref": Compares()}, groups=groups)
    alone = [run({"pref": Compares()}, groups=[one])[0].outcome.rewards for one in groups]
    assert [one.outcome.rewards for one in made] == alone
    turned = run({"pref": Compares()}, groups=groups[::-1])
    assert [one.outcome.rewards for one in turned] == alone[::-1]


def test_what_will_be_blank_leaves_the_matrix() -> None:
    scorers = {"pref": Compares(scored()), "rule": Fixed(1, None, 1, 1)}
    [made] = run(scorers, required=["pref", "rule"], weights={"pref": 1})
    without = [0, 2, 3]
    expected = rewards(scorers={"pref": Compares(scored()[np.ix_(without, without)])}, groups=[group(3)])
    assert made.outcome.rewards[1] is None
    assert [made.outcome.rewards[n] for n in without] == pytest.approx(expected, abs=1e-12)
    assert sum(expected) == pytest.approx(0, abs=1e-12)


def test_a_completion_without_comparisons_is_out() -> None:
    strengths = matrix(4, {(0, 1): 1, (1, 3): 1})
    made = rewards(scorers={"pref": Compares(strengths)}, required=["pref"])
    assert made[2] is None and made[0] == pytest.approx(1 / np.sqrt(0.5)) and made[1] == pytest.approx(0)


def test_pointwise_scores_are_standardised_and_added() -> None:
    scores = [0.0, 10.0, 20.0, 50.0]
    alone = rewards(scorers={"pref": Compares(scored())})
    made = rewards(scorers={"pref": Compares(scored()), "short": Fixed(*scores)}, weights={"pref": 2, "short": 0.5})
    column = (np.array(scores) - 20) / (np.std(scores, ddof=1) + 1e-4)
    assert made == pytest.approx(2 * np.array(alone) + 0.5 * column, abs=1e-12)


def test_pointwise_scores_are_standardised_among_what_is_left() -> None:
    scorers = {"pref": Compares(scored()), "short": Fixed(0, 1, 100, 2), "rule": Fixed(1, 1, None, 1)}
    made = rewards(scorers=scorers, required=["rule"], weights={"pref": 1, "short": 1})
    assert made[2] is None and sum(one for one in made if one is not None) == pytest.approx(0, abs=1e-12)
    plain = rewards(scorers=scorers, required=["rule"], weights={"pref": 1})
    assert made[1] - plain[1] == pytest.approx(0, abs=1e-12) and made[3] - plain[3] == pytest.approx(1, abs=1e-3)


def test_an_optional_score_that_is_missing_counts_as_the_mean() -> None:
    made = rewards(scorers={"pref": Compares(np.zeros((4, 4))), "short": Fixed(1, None, 3, 5)})
    assert made == pytest.approx([-1, 0, 0, 1], abs=1e-3)


def test_an_optional_judge_that_gave_nothing_does_not_count() -> None:
    nothing = Compares(matrix(4, {}))
    assert rewards(scorers={"pref": nothing}) == (None,) * 4
    made = rewards(scorers={"pref": nothing, "short": Fixed(1, 2, 3, 4)})
    assert made == pytest.approx(np.array([-1.5, -0.5, 0.5, 1.5]) / np.std([1, 2, 3, 4], ddof=1), abs=1e-3)
    both = rewards(scorers={"pref": nothing, "other": Compares(scored())}, eps="paper")
    assert both == pytest.approx(T1, abs=1e-4)


def test_several_judges_are_one_matrix() -> None:
    one, other = scored(), additive([0, 1, 2, 4])
    made = rewards(scorers={"a": Compares(one), "b": Compares(other)}, weights={"a": 0.75, "b": 0.25})
    expected = rewards(scorers={"both": Compares(0.75 * one + 0.25 * other)})
    assert made == pytest.approx(expected, abs=1e-12)
    against = rewards(scorers={"a": Compares(one)}, weights={"a": -1})
    assert against == pytest.approx([-value for value in rewards(scorers={"a": Compares(one)})])


def test_the_sum_is_zero_whatever_is_missing() -> None:
    generator = np.random.default_rng(3)
    for _ in range(200):
        size = int(generator.integers(2, 9))
        upper = np.triu(generator.normal(size=(size, size)), 1)
        strengths = upper - upper.T
        gone = np.triu(generator.random((size, size)) < 0.3, 1)
        strengths[gone | gone.T] = np.nan
        rule = Fixed(*(None if generator.random() < 0.2 else 1.0 for _ in range(size)))
        short = Fixed(*generator.normal(size=size))
        weights = {"pref": 1, "short": generator.random()}
        normalize = ("group", "batch", "none")[generator.integers(3)]
        scorers = {"pref": Compares(strengths), "short": short, "rule": rule}
        made = rewards(scorers=scorers, required=["rule"], weights=weights, normalize=normalize, groups=[group(size)])
        assert sum(one for one in made if one is not None) == pytest.approx(0, abs=1e-9)


def test_without_normalisation_they_are_the_ranking() -> None:
    assert rewards(scorers={"pref": Compares(scored())}, normalize="none") == (1.5, -0.75, -1.75, 1.0)
    doubled = rewards(scorers={"pref": Compares(scored())}, normalize="none", weights={"pref": 2})
    assert doubled == (3.0, -1.5, -3.5, 2.0)


def test_a_batch_keeps_its_magnitudes() -> None:
    groups = [group(2, strengths=matrix(2, {(0, 1): 3})), group(2, strengths=matrix(2, {(0, 1): 1}))]
    engine = RewardEngine({"pref": Compares()}, PairwiseConfig(weights={"pref": 1}, normalize="batch").build(), [], 10)
    ranks = [engine.score(groups[:1]), engine.score(groups[1:])]
    batch = summed([totals(one) for one in ranks])
    assert batch == (10.0, 2.0)
    made = [engine.settle(one, batch)[0].outcome for one in ranks]
    # Half the mean square of all strengths: (9 + 1) / 2 / 2.
    assert made[0].rewards == pytest.approx([1.5 / np.sqrt(2.5), -1.5 / np.sqrt(2.5)])
    assert made[1].rewards == pytest.approx([0.5 / np.sqrt(2.5), -0.5 / np.sqrt(2.5)])
    assert made[1].metrics["den"] == pytest.approx(np.sqrt(2.5))


def test_a_batch_of_ties_is_zero() -> None:
    assert rewards(scorers={"pref": Compares(np.zeros((4, 4)))}, normalize="batch") == (0, 0, 0, 0)


def test_comparisons_that_cancel_leave_no_rounding() -> None:
    strengths = additive([0.1, 0.7, -0.3, 0.2])
    scorers = {name: Compares(strengths) for name in ("a", "b", "c")}
    assert rewards(scorers=scorers, weights={"a": 0.1, "b": 0.7, "c": -0.8}) == (0.0, 0.0, 0.0, 0.0)
    # Small ones that do not cancel are no rounding.
    tiny = rewards(scorers={"a": Compares(strengths * 1e-9)})
    assert tiny == pytest.approx(rewards(scorers={"a": Compares(strengths)}))
