import math

import numpy as np
import pytest
from scipy import stats

from analysis.statistics import Interval, document_bootstrap, holm, paired_interval, paired_p_value, pairs_needed
from sla_ablate.errors import InputError

DIFFERENCES = [0.02, 0.05, -0.01, 0.03]


def by_chance(share, trials):
    """`share` as it comes out of so many trials: within three binomial standard errors."""
    return pytest.approx(share, abs=3 * math.sqrt(share * (1 - share) / trials))


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_interval_is_scipys(confidence):
    interval = paired_interval(DIFFERENCES, confidence)
    expected = stats.ttest_1samp(DIFFERENCES, 0).confidence_interval(confidence)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert interval.mean == pytest.approx(0.0225)
    assert interval.n == 4


def test_interval_from_the_textbook_table():
    interval = paired_interval([1.0, 2.0, 3.0])  # mean 2, s 1, t(2) = 4.303
    assert (interval.low, interval.high) == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), abs=1e-3)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_interval_covers_as_often_as_it_says(n):
    samples = np.random.default_rng(0).normal(0.3, 1, size=(4000, n))
    intervals = [paired_interval(sample) for sample in samples]
    assert np.mean([i.low <= 0.3 <= i.high for i in intervals]) == by_chance(0.95, 4000)


def test_one_difference_has_no_bounds():
    interval = paired_interval([0.5])
    assert interval.mean == 0.5
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert not interval.exists
    assert not interval.excludes_zero


def test_no_difference_is_an_input_error():
    with pytest.raises(InputError, match="at least one"):
        paired_interval([])


def test_a_pattern_equal_to_the_baseline_is_not_resolved():
    assert paired_interval([0.0, 0.0, 0.0]) == Interval(0.0, 0.0, 0.0, 3)
    assert not paired_interval([0.0, 0.0, 0.0]).excludes_zero
    assert paired_p_value([0.0, 0.0, 0.0]) == 1.0


@pytest.mark.parametrize(("low", "high", "resolved"), [(0.1, 0.2, True), (-2, -1, True), (-1, 1, False)])
def test_excludes_zero_on_either_side(low, high, resolved):
    assert Interval((low + high) / 2, low, high, 3).excludes_zero is resolved


@pytest.mark.parametrize("shift", [-0.06, 0.0, 0.001, 0.06])
def test_p_value_agrees_with_the_interval(shift):
    differences = np.array(DIFFERENCES) + shift
    p = paired_p_value(differences)
    assert p == pytest.approx(stats.ttest_rel(differences, np.zeros(4)).pvalue)
    assert paired_interval(differences, confidence=1 - p * 1.01).excludes_zero
    assert not paired_interval(differences, confidence=1 - p * 0.99).excludes_zero


def test_one_difference_has_no_p_value():
    assert math.isnan(paired_p_value([0.1]))


def test_holm_on_a_worked_example():
    # Sorted .005 .01 .03 .04 times 4 3 2 1 = .02 .03 .06 .04; the last may not fall below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])


def test_holm_does_not_count_a_test_that_was_not_made():
    adjusted = holm([0.02, math.nan, 0.01])
    assert adjusted[[0, 2]] == pytest.approx([0.02, 0.02])
    assert math.isnan(adjusted[1])
    assert holm([]).size == 0


@pytest.mark.parametrize("true", [5, 3, 1])
def test_holm_keeps_the_family_wise_error(true):
    """Of five independent tests `true` have nothing to find; the rate of any false finding is known exactly."""
    p = np.random.default_rng(0).uniform(size=(4000, 5))
    p[:, true:] = 1e-9
    rejected = np.mean([(holm(row)[:true] <= 0.05).any() for row in p])
    assert rejected == by_chance(1 - (1 - 0.05 / true) ** true, 4000)  # at most .05; uncorrected up to .23


def differences_of(effect):
    """Two differences with this mean and standard deviation 1."""
    return [effect - 0.5**0.5, effect + 0.5**0.5]


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (-0.5, 34), (0.8, 15), (1.0, 10)])
def test_pairs_needed_from_the_tables_of_power(effect, n):
    assert pairs_needed(differences_of(effect)) == n
    assert pairs_needed(1e-3 * np.array(differences_of(effect))) == n


@pytest.mark.parametrize("effect", [0.7, 1.5])
def test_pairs_needed_are_enough_and_one_less_is_not(effect):
    n = pairs_needed(differences_of(effect))
    rng = np.random.default_rng(0)
    for size, enough in ((n, True), (n - 1, False)):
        found = stats.ttest_1samp(rng.normal(effect, 1, (100_000, size)), 0, axis=1).pvalue <= 0.05
        assert (found.mean() >= 0.8) is np.bool_(enough)


def test_pairs_needed_at_the_ends():
    assert pairs_needed([0.3, 0.3, 0.3]) == 2
    assert pairs_needed([1e9, 1e9 + 1]) == 2
    assert pairs_needed([0.0, 0.0]) == math.inf
    assert pairs_needed([1.0, -1.0]) == math.inf
    assert 9_000 < pairs_needed(differences_of(0.0285)) <= 10_000
    assert pairs_needed(differences_of(0.0279)) == math.inf
    for nothing in ([], [0.1], [0.1, math.nan]):
        assert math.isnan(pairs_needed(nothing))


def documents(rng, n=60, shift=0.02):
    tokens = rng.integers(20, 400, n)
    difficulty = rng.normal(3, 0.5, n)  # common to both models
    nll_b = difficulty * tokens
    return nll_b + tokens * rng.normal(shift, 0.05, n), nll_b, tokens


def test_bootstrap_mean_and_width():
    a, b, tokens = documents(np.random.default_rng(1))
    interval = document_bootstrap(a, b, tokens)
    assert interval.mean == pytest.approx((a.sum() - b.sum()) / tokens.sum(), rel=1e-12)
    assert interval.n == 60
    # Delta method for a ratio of sums, by hand.
    residual = a - b - interval.mean * tokens
    half = 1.96 * math.sqrt((residual**2).sum()) / tokens.sum()
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.15)


def test_bootstrap_is_paired():
    """What makes a document hard for both models leaves the interval as it is."""
    a, b, tokens = documents(np.random.default_rng(2))
    hard = np.random.default_rng(3).normal(0, 1000, a.size)
    first, second = document_bootstrap(a, b, tokens), document_bootstrap(a + hard, b + hard, tokens)
    assert (second.low, second.high) == pytest.approx((first.low, first.high), abs=1e-9)


def test_bootstrap_resamples_losses_with_their_tokens():
    """A difference in proportion to the tokens is the same rate in every resample."""
    tokens = np.array([10.0, 50.0, 400.0])
    interval = document_bootstrap(3.5 * tokens, 3 * tokens, tokens)
    assert (interval.low, interval.high) == pytest.approx((0.5, 0.5))


def test_bootstrap_covers():
    """As often as it says, within chance, at a hundred documents of uneven length."""
    rng = np.random.default_rng(4)
    intervals = [document_bootstrap(*documents(rng, n=100), resamples=400) for _ in range(400)]
    assert np.mean([i.low <= 0.02 <= i.high for i in intervals]) == by_chance(0.95, 400)


def test_bootstrap_is_a_function_of_its_seed():
    data = documents(np.random.default_rng(5))
    assert document_bootstrap(*data, seed=7) == document_bootstrap(*data, seed=7)
    assert document_bootstrap(*data, seed=7) != document_bootstrap(*data, seed=8)


def test_bootstrap_of_one_document_or_of_a_diverged_model_has_no_bounds():
    assert not document_bootstrap([3.0], [2.0], [10]).exists
    assert not document_bootstrap([3.0, math.nan, 1.0], [2.0, 1.0, 1.0], [10, 10, 10]).exists


@pytest.mark.parametrize("data", [([], [], []), ([1.0, 2.0], [1.0], [1, 1])])
def test_bootstrap_wants_the_same_documents(data):
    with pytest.raises(InputError, match="same documents"):
        document_bootstrap(*data)
