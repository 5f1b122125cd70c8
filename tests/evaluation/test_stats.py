import math
import subprocess
import sys

import numpy as np
import pytest

from rlrules.evaluation.stats import (
    bootstrap,
    interval,
    kappa,
    paired_bootstrap,
    resample_counts,
    share,
    spearman,
    standard_error,
)
from tests.evaluation.shared import ROOT


def test_import_is_light() -> None:
    code = "import sys, rlrules.evaluation.stats; assert not {'torch', 'scipy.stats', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_standard_error() -> None:
    # 1, 2, 3, 4: variance (2.25 + 0.25 + 0.25 + 2.25) / 3 = 5/3, over four.
    assert standard_error([1, 2, float("nan"), 3, 4]) == pytest.approx(math.sqrt(5 / 12))
    assert math.isnan(standard_error([1.0]))


def test_resamples_are_whole_seeded_and_uniform() -> None:
    counts = resample_counts(50, 2000, seed=3)
    assert counts.shape == (2000, 50) and (counts.sum(axis=1) == 50).all()
    assert (counts == resample_counts(50, 2000, seed=3)).all()
    assert (counts != resample_counts(50, 2000, seed=4)).any()
    # A unit's count has mean 1 and variance 1 - 1/50.
    assert counts.mean(axis=0) == pytest.approx(np.ones(50), abs=5 * math.sqrt(0.98 / 2000))
    assert counts.var() == pytest.approx(0.98, rel=0.02)


def test_interval_leaves_undefined_draws_out() -> None:
    found = interval(5.0, [*range(101), float("nan")])
    assert (found.low, found.high) == (pytest.approx(2.5), pytest.approx(97.5))
    assert interval(1.0, [float("nan")]).record() == {"value": 1.0, "low": None, "high": None}


def test_bootstrap_of_a_mean_is_as_wide_as_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = bootstrap(values, resamples=4000)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * standard_error(values), rel=0.06)


def test_whole_units_are_resampled() -> None:
    # Ten units of a hundred equal cases each: as uncertain as ten cases, not as a thousand.
    totals, weights = [100.0] * 5 + [0.0] * 5, [100.0] * 10
    units = bootstrap(totals, weights, resamples=4000)
    cases = bootstrap(np.repeat([1.0, 0.0], 500), resamples=4000)
    assert units.value == cases.value == 0.5
    assert (units.high - units.low) / (cases.high - cases.low) == pytest.approx(10, rel=0.2)


def test_missing_units_count_nowhere() -> None:
    assert bootstrap([1.0, float("nan"), 0.0, 1.0]).value == pytest.approx(2 / 3)
    assert math.isnan(bootstrap([float("nan")]).value)


def test_pairing_takes_out_what_two_share() -> None:
    common = np.random.default_rng(1).normal(scale=10, size=300)
    found = paired_bootstrap((common + 1, None), (common, None))
    assert found.value == pytest.approx(1) and found.low == pytest.approx(1) and found.high == pytest.approx(1)
    with pytest.raises(ValueError, match="3 units cannot be paired with 2"):
        paired_bootstrap(([1, 2, 3], None), ([1, 2], None))


def test_wilson() -> None:
    # 8 of 10, by hand: centre (0.8 + 1.9207/10) / 1.38415, half-width as in Wilson (1927).
    found = share(8, 10)
    assert (found.low, found.high) == (pytest.approx(0.490162, abs=1e-6), pytest.approx(0.943318, abs=1e-6))


def test_kappa_and_spearman() -> None:
    # Observed agreement 3/4; by chance 3/4 * 1/2 + 1/4 * 1/2 = 1/2.
    assert kappa(["a", "a", "b", "a"], ["a", "a", "b", "b"]) == pytest.approx(0.5)
    assert math.isnan(kappa(["a", "a"], ["a", "a"]))
    # Differences of ranks 0, 1, -1, 0: 1 - 6 * 2 / (4 * 15).
    assert spearman([1, 2, 3, 4], [10, 30, 20, 40]) == pytest.approx(0.8)
    assert math.isnan(spearman([1, 2], [3, 3]))
