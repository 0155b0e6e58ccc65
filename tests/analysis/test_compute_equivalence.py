import math

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special

from analysis.compute_equivalence import HUBER, KEYS, Baselines, LossCurve, fit

HOFFMANN = LossCurve(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)
ONE_SIZE = LossCurve(E=3.4, B=930.0, beta=0.5)
"""4.6 to 3.7 nats per token over the lengths below."""
TOKENS = [600_000, 1_200_000, 2_400_000, 4_800_000, 9_600_000]
N = 1_300_000


def runs(curve=ONE_SIZE, tokens=TOKENS, parameters=(N,), seeds=3, noise=0.0, rng=None):
    table = pd.DataFrame([(d, n, s) for d in tokens for n in parameters for s in range(seeds)], columns=KEYS)
    table["loss"] = curve.loss(table["tokens"], table["parameters"])
    return table.assign(loss=table["loss"] + noise * rng.normal(size=len(table))) if rng else table


def pattern(baseline, tokens, delta, noise=0.0, rng=None):
    """The baseline's runs of one length with another loss."""
    table = baseline[baseline["tokens"] == tokens]
    return table.assign(loss=table["loss"] + delta + (noise * rng.normal(size=len(table)) if rng else 0))


def test_the_curve_of_several_sizes_is_recovered():
    curve = fit(runs(HOFFMANN, parameters=(N, 5 * N, 25 * N), seeds=1))
    for name in ("E", "A", "B", "alpha", "beta"):
        assert getattr(curve, name) == pytest.approx(getattr(HOFFMANN, name), rel=1e-6)


def test_the_curve_of_one_size_is_recovered():
    curve = fit(runs(HOFFMANN, tokens=TOKENS[:4], seeds=1))
    assert (curve.E, curve.B, curve.beta) == pytest.approx((1.69 + 406.4 / N**0.34, 410.7, 0.28), rel=1e-6)
    assert curve.A == 0


@pytest.mark.parametrize("seed", range(3))
def test_no_other_curve_has_a_lesser_huber_loss(seed):
    table = runs(noise=0.006, rng=np.random.default_rng(seed))

    def huber(theta):
        E, B, beta = theta
        fitted = E + B * (table["tokens"] / 1e6) ** -beta
        return special.huber(HUBER, np.log(fitted) - np.log(table["loss"])).sum() if fitted.min() > 0 else math.inf

    curve = fit(table)
    ours = (curve.E, curve.B / 1e6**curve.beta, curve.beta)
    other = optimize.minimize(huber, (3, 1, 0.4), method="Nelder-Mead", options={"maxiter": 4000, "fatol": 1e-14})
    assert huber(ours) <= other.fun + 1e-9
    assert curve.loss(TOKENS) == pytest.approx(
        LossCurve(other.x[0], other.x[1] * 1e6 ** other.x[2], other.x[2]).loss(TOKENS), abs=1e-4
    )


def test_one_run_that_went_wrong_hardly_moves_the_curve():
    table = runs(seeds=5)
    table.loc[7, "loss"] += 0.5
    assert fit(table).loss(TOKENS) == pytest.approx(ONE_SIZE.loss(TOKENS), abs=2e-3)


def test_a_curve_is_read_both_ways():
    assert HOFFMANN.tokens(float(HOFFMANN.loss(3e6, N)), N) == pytest.approx(3e6)
    assert ONE_SIZE.tokens(3.39) == math.inf


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.3])
@pytest.mark.parametrize("parameters", [(N,), (N, 4 * N, 16 * N)])
def test_the_gain_is_recovered(factor, parameters):
    baseline = runs(HOFFMANN, parameters=parameters)
    D = TOKENS[2]
    ours = pattern(baseline, D, 0)
    ours = ours[ours["parameters"] == N].assign(loss=float(HOFFMANN.loss(factor * D, N)))
    gain = Baselines(baseline).gain(ours)
    assert (gain.factor, gain.low, gain.high) == pytest.approx((factor,) * 3, rel=1e-6)
    assert (gain.pairs, gain.reason) == (3, "")


def test_what_a_seed_does_to_both_cancels():
    baseline = runs(noise=0.02, rng=np.random.default_rng(0))
    equal = Baselines(baseline).gain(pattern(baseline, TOKENS[3], 0))
    assert (equal.factor, equal.low, equal.high) == pytest.approx((1, 1, 1), abs=1e-12)


def test_residuals_are_those_of_the_runs():
    baseline = runs(noise=0.01, rng=np.random.default_rng(0))
    table = Baselines(baseline).residuals()
    assert (table["fitted"] + table["residual"]).to_numpy() == pytest.approx(baseline["loss"].to_numpy())
    assert table["residual"].std() == pytest.approx(0.01, rel=0.5)


@pytest.mark.slow
def test_the_interval_covers():
    """As often as it says, within three binomial standard errors, at three seeds and the fewest lengths."""
    rng = np.random.default_rng(0)
    D, delta, trials = TOKENS[2], -0.03, 100
    true = ONE_SIZE.tokens(float(ONE_SIZE.loss(D)) + delta) / D
    covered = 0
    for _ in range(trials):
        baseline = runs(tokens=TOKENS[:4], noise=0.006, rng=rng)
        gain = Baselines(baseline).gain(pattern(baseline, D, delta, 0.005, rng))
        covered += gain.low <= true <= gain.high
    assert covered / trials == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / trials))


def test_a_bound_beyond_the_curve_is_open():
    baseline = runs(noise=0.02, rng=np.random.default_rng(1))
    delta = float(ONE_SIZE.loss(1.7 * TOKENS[-1]) - ONE_SIZE.loss(TOKENS[-1]))
    gain = Baselines(baseline).gain(pattern(baseline, TOKENS[-1], delta, 0.05, np.random.default_rng(2)))
    assert 1 < gain.factor < 2
    assert gain.high == math.inf


@pytest.mark.parametrize(
    ("baseline", "reason"),
    [
        (runs(tokens=TOKENS[:3]), "the baseline was trained to 3 length(s), and a curve takes 4"),
        (runs().assign(loss=math.nan), "the baseline has a run without a finite loss"),
    ],
)
def test_there_is_no_curve_and_the_reason_is_named(baseline, reason):
    baselines = Baselines(baseline)
    assert baselines.curve is None
    assert baselines.reason == reason
    assert math.isnan(baselines.gain(pattern(runs(), TOKENS[0], -0.01)).factor)
    assert baselines.gain(pattern(runs(), TOKENS[0], -0.01)).reason == reason


@pytest.mark.parametrize(
    ("ours", "reason"),
    [
        (pattern(runs(), TOKENS[4], -0.2), "not within 0.0312 to 2 times the tokens, as far as the baseline's curve"),
        (pattern(runs(), TOKENS[0], 0.6), "not within 0.5 to 32 times"),
        (pattern(runs(), TOKENS[0], -2), "not within"),
        (pattern(runs(), TOKENS[0], math.nan), "the pattern has a run without a finite loss"),
        (pattern(runs(), TOKENS[0], 0).assign(seed=9), "no baseline has the seed, length and size"),
        (pattern(runs(), TOKENS[0], 0).assign(parameters=9), "no baseline has the seed, length and size"),
    ],
)
def test_there_is_no_gain_and_the_reason_is_named(ours, reason):
    gain = Baselines(runs()).gain(ours)
    assert math.isnan(gain.factor)
    assert math.isnan(gain.low)
    assert gain.reason.startswith(reason)


@pytest.mark.parametrize("slope", [-1e-5, 0.0, 0.05])
def test_a_baseline_that_does_not_fall_with_its_tokens_has_no_gain(slope):
    baseline = runs()
    baseline["loss"] = 4 + slope * np.log(baseline["tokens"] / TOKENS[0])
    gain = Baselines(baseline).gain(pattern(baseline, TOKENS[1], -0.01))
    assert math.isnan(gain.factor)
    assert gain.reason.startswith("not within")


def test_few_seeds_have_a_gain_without_an_interval():
    one = runs(seeds=1)
    gain = Baselines(one).gain(pattern(one, TOKENS[1], -0.01))
    assert gain.factor > 1
    assert math.isnan(gain.low)
    assert gain.reason == "too few seeds for an interval"
    two = runs(seeds=2, tokens=TOKENS[:4])
    two = two[(two["tokens"] < TOKENS[3]) | (two["seed"] == 0)]  # without seed 0 there are three lengths
    assert Baselines(two).gain(pattern(two, TOKENS[1], -0.01)).reason == gain.reason
