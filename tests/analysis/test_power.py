import math

import numpy as np
import pytest
from scipy import stats

from analysis.power import POWER, pooled_std, power, seeds_needed, smallest_difference


def test_power_of_a_published_example():
    """`pwr.t.test(d = 0.2, n = 60, sig.level = 0.10, type = "one.sample")` in the manual of R's package pwr."""
    assert power(0.2, 60, confidence=0.9) == pytest.approx(0.4555818, abs=5e-8)


@pytest.mark.parametrize("pairs", [2, 4, 9])
@pytest.mark.parametrize("effect", [0.3, -1.0, 2.5])
def test_power_is_that_of_the_noncentral_t(effect, pairs):
    edge = stats.t.ppf(0.975, pairs - 1)
    noncentral = stats.nct(pairs - 1, effect * math.sqrt(pairs))
    assert power(effect, pairs) == pytest.approx(noncentral.sf(edge) + noncentral.cdf(-edge), abs=1e-9)


def test_power_is_how_often_the_interval_excludes_zero():
    samples = np.random.default_rng(0).normal(1.2, 1, (40_000, 5))
    found = np.mean(stats.ttest_1samp(samples, 0, axis=1).pvalue <= 0.05)
    assert found == pytest.approx(power(1.2, 5), abs=3 * 0.5 / 200)


@pytest.mark.parametrize("pairs", [2, 3, 5, 34, 100])
def test_the_smallest_difference_takes_the_seeds_at_hand(pairs):
    smallest = smallest_difference(0.004, pairs)
    assert power(smallest / 0.004, pairs) == pytest.approx(POWER, abs=1e-9)
    assert seeds_needed(1.001 * smallest, 0.004) == pairs
    assert seeds_needed(0.999 * smallest, 0.004) == pairs + 1


def test_what_cannot_be_said():
    assert smallest_difference(0.1, 1) == smallest_difference(0.1, 0) == math.inf
    assert smallest_difference(0.0, 3) == 0
    assert seeds_needed(0.0, 0.1) == seeds_needed(0.0, 0.0) == math.inf
    assert seeds_needed(0.1, 0.0) == 2
    for nothing in (
        pooled_std([]),
        pooled_std([[0.1], []]),
        smallest_difference(math.nan, 3),
        seeds_needed(1, math.nan),
    ):
        assert math.isnan(nothing)


def test_pooled_std_on_a_worked_example():
    """Sums of squares 2 and 8 about means 2 and 12, over two degrees of freedom and one."""
    assert pooled_std([[1, 2, 3], [10, 14], [7]]) == pytest.approx(math.sqrt(10 / 3))
