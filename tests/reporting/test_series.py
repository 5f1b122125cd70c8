"""Curves, by hand."""

import math

import numpy as np
import pytest

from rlrules.reporting.series import Series, weighted_mean


def line(*values: float) -> Series:
    return Series.of([(step, value) for step, value in enumerate(values, 1)])


def test_points_in_any_order() -> None:
    series = Series.of([(3, 30.0), (1, 10.0), (2, 20.0)])
    assert series.steps.tolist() == [1, 2, 3]
    assert series.values.tolist() == [10, 20, 30]


@pytest.mark.parametrize(("count", "first", "last"), [(1, 1, 1), (2, 1, 2), (5, 1, 5), (10, 1.5, 9.5)])
def test_fifths(count: int, first: float, last: float) -> None:
    assert line(*range(1, count + 1)).fifths() == (first, last)


def test_thinned_keeps_the_mean() -> None:
    thin = line(1, 3, 5, 7).thinned(2)
    assert thin.steps.tolist() == [1.5, 3.5]
    assert thin.values.tolist() == [2, 6]
    assert len(line(1, 2, 3).thinned(3)) == 3
    uneven = line(*range(2000)).thinned(313)
    assert len(uneven) == 313
    assert uneven.values[0] == pytest.approx(np.mean(range(6)))


def test_smoothed() -> None:
    assert line(0, 3, 0, 3).smoothed().values.tolist() == pytest.approx([1.5, 1, 2, 1.5])


def test_only_noise_is_smoothed() -> None:
    assert line(*[0.0, 1.0] * 30).is_noisy
    assert not line(*np.linspace(1, 0, 60)).is_noisy
    assert not line(*[2.0] * 60).is_noisy
    assert not line(0, 1, 0, 1).is_noisy


def test_strip_leaves_gaps() -> None:
    cells = Series.of([(1, 0.2), (2, 0.4), (6, 1.0)]).strip(1, 6, 3)
    assert cells.tolist() == pytest.approx([0.3, math.nan, 1.0], nan_ok=True)
    assert len(Series.of([(4, 0.5)]).strip(4, 4, 60)) == 1


def test_weighted_mean_over_steps_that_both_have() -> None:
    assert weighted_mean(line(0.0, 1.0), line(3.0, 1.0)) == 0.25
    assert weighted_mean(Series.of([(2, 1.0), (9, 5.0)]), line(3.0, 1.0)) == 1.0
    assert weighted_mean(line(1.0), line(0.0)) is None
    assert weighted_mean(None, line(1.0)) is None
