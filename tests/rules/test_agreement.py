"""Agreement, accuracy, matrix and flips on verdicts small enough to count by hand."""

import numpy as np
import pytest
from scipy.stats import pearsonr

from rlrules.rules.agreement import flags, flip_rates, rule_agreement, rule_matrix, set_accuracy, share
from tests.rules.hand import VERDICTS

NAN = float("nan")


def test_wilson() -> None:
    # (0.75 + z²/8 ± z √(0.75·0.25/4 + z²/64)) / (1 + z²/4) with z = 1.959964.
    three_of_four = share(3, 4)
    assert (three_of_four.value, three_of_four.n) == (0.75, 4)
    assert three_of_four.low == pytest.approx(0.300642, abs=1e-6)
    assert three_of_four.high == pytest.approx(0.954413, abs=1e-6)
    half = share(4.5, 6)
    assert (half.value, half.low, half.high) == (0.75, share(4, 6).low, share(5, 6).high)
    assert share(0, 0).n == 0 and np.isnan(share(0, 0).value)


def test_each_rule() -> None:
    first, second, third = rule_agreement(VERDICTS)
    assert (first.agreement.value, first.agreement.n) == (3 / 4, 4)
    assert (first.discordance.value, first.discordance.n) == (4 / 5, 5)
    assert (first.applicability.value, first.applicability.n) == (11 / 12, 12)
    assert (first.satisfied_chosen.value, first.satisfied_rejected.value) == (4 / 5, 2 / 6)
    assert first.agreement.low == pytest.approx(0.300642, abs=1e-6)
    assert (second.agreement.value, second.agreement.n, second.discordance.value) == (2 / 3, 3, 3 / 6)
    assert third.agreement.n == 0 and np.isnan(third.agreement.value)
    assert (third.discordance.value, third.applicability.value) == (0.0, 1.0)


def test_a_missing_verdict_is_not_an_inapplicable_rule() -> None:
    failed = np.isnan(VERDICTS)
    assert rule_agreement(VERDICTS, failed)[0].applicability.value == 1.0
    assert rule_agreement(VERDICTS, failed)[0].applicability.n == 11


def test_set_accuracy() -> None:
    # Means: 1 > 2/3, 2/3 > 1/3, 1 = 1, 2/3 = 2/3, 2/3 = 2/3, 1 > 1/3: three wins, three ties.
    found = set_accuracy(VERDICTS)
    assert (found.value, found.n) == ((3 + 3 / 2) / 6, 6)
    assert (found.low, found.high) == (share(4, 6).low, share(5, 6).high)
    # With rule 2 alone all are ties, with rule 0 alone three wins, one loss, one tie and one pair without a mean.
    assert set_accuracy(VERDICTS, [0, 0, 1]).value == 0.5
    alone = set_accuracy(VERDICTS, [1, 0, 0])
    assert (alone.value, alone.n) == ((3 + 1 / 2) / 5, 5)


def test_inapplicable_rules_in_the_set() -> None:
    verdicts = np.array([[[NAN, 0.0], [1.0, 0.0]]])
    assert set_accuracy(verdicts, na="excluded").value == 0.0
    assert set_accuracy(verdicts, na="satisfied").value == 0.5
    # A missing verdict satisfies nothing.
    assert set_accuracy(verdicts, na="satisfied", failed=np.isnan(verdicts)).value == 0.0
    assert set_accuracy(np.full((2, 2, 3), NAN)).n == 0


def test_sums_in_another_order_are_still_ties() -> None:
    verdicts = np.array([[[1.0, 0.0, 0.0, NAN], [0.0, 0.0, 1.0, NAN]]])
    assert set_accuracy(verdicts, [0.1, 0.2, 0.1, 0.7]).value == 0.5


def test_matrix() -> None:
    matrix = rule_matrix(VERDICTS)
    assert matrix.agreement[0, 1] == pytest.approx(5 / 11)
    assert matrix.phi[0, 1] == pytest.approx((3 * 2 - 3 * 3) / np.sqrt(6 * 5 * 6 * 5))
    assert matrix.n.tolist() == [[11, 11, 11], [11, 12, 12], [11, 12, 12]]
    assert matrix.agreement[0, 2] == pytest.approx(6 / 11)
    assert matrix.agreement[1, 2] == pytest.approx(7 / 12)
    assert np.isnan(matrix.phi[:, 2]).all(), "a rule that never changes its verdict correlates with nothing"
    for table in (matrix.agreement, matrix.phi, matrix.n):
        np.testing.assert_array_equal(table, table.T)
    assert matrix.agreement.diagonal().tolist() == [1.0, 1.0, 1.0]


def test_phi_is_the_correlation() -> None:
    verdicts = (np.random.default_rng(0).random((40, 2, 3)) < 0.6).astype(float)
    flat = verdicts.reshape(-1, 3)
    expected = pearsonr(flat[:, 0], flat[:, 2]).statistic
    assert rule_matrix(verdicts).phi[0, 2] == pytest.approx(expected)


def test_flags() -> None:
    one = (np.random.default_rng(1).random((30, 2, 1)) < 0.5).astype(float)
    found = flags(rule_matrix(np.concatenate([one, one, 1 - one], axis=2)))
    assert {(flag.kind, flag.first, flag.second) for flag in found} == {
        ("redundant", 0, 1),
        ("conflict", 0, 2),
        ("conflict", 1, 2),
    }
    assert all(flag.n == 60 for flag in found)
    assert flags(rule_matrix(np.concatenate([one, one], axis=2)), min_n=61) == []


def test_flip_rates() -> None:
    # Three repeats, one pair, rules that: never flip; flip on one answer; turn inapplicable once; fail once or twice.
    draws = np.array(
        [
            [[[1.0, 1.0, NAN, NAN], [0.0, 0.0, NAN, 1.0]]],
            [[[1.0, 0.0, NAN, 1.0], [0.0, 0.0, 1.0, NAN]]],
            [[[1.0, 1.0, NAN, 1.0], [0.0, 0.0, NAN, NAN]]],
        ]
    )
    failed = np.zeros(draws.shape, bool)
    failed[0, 0, 0, 3] = failed[1, 0, 1, 3] = failed[2, 0, 1, 3] = True
    found = flip_rates(draws, failed)
    assert [(one.value, one.n) for one in found] == [(0.0, 2), (0.5, 2), (0.5, 2), (0.0, 1)]
