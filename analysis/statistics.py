"""Uncertainty of a difference between two models.

Two kinds, never mixed: training noise, seen over runs paired by seed (`paired_interval`,
`paired_p_value`, `pairs_needed`), and test-set noise, seen over documents (`document_bootstrap`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analysis.power import seeds_needed
from sla_ablate.errors import InputError


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval; the bounds are NaN where the data allow none."""

    mean: float
    low: float
    high: float
    n: int
    """Observations: seed pairs or documents."""

    @property
    def exists(self) -> bool:
        """True if there are bounds at all."""
        return not math.isnan(self.low)

    @property
    def excludes_zero(self) -> bool:
        """True if the sign of the mean is resolved; False where there are no bounds."""
        return self.low > 0 or self.high < 0


def paired_interval(differences: ArrayLike, confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean of `differences` [n], one per seed pair.

    mean ± t(n − 1) · s / √n. A t interval because it keeps its coverage at 3 to 10 seeds, where a
    percentile bootstrap falls to .75 to .90. One difference has a mean but no bounds.

    Raises:
        InputError: no differences.
    """
    values = np.asarray(differences, dtype=np.float64)
    n = values.size
    if n == 0:
        raise InputError("an interval needs at least one paired difference, got none")
    mean = float(values.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, n)
    # Not stats.t.interval, which gives NaN for identical differences (a pattern equal to the baseline).
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def paired_p_value(differences: ArrayLike) -> float:
    """Two-sided p of the paired t test that the mean of `differences` [n] is 0; NaN for fewer than two."""
    values = np.asarray(differences, dtype=np.float64)
    if values.size < 2:
        return math.nan
    if not values.any():
        return 1.0  # 0 / 0 to the t statistic, yet the least evidence there can be
    return float(stats.ttest_1samp(values, 0.0).pvalue)


def pairs_needed(differences: ArrayLike) -> float:
    """Seed pairs it takes to resolve a difference like the mean of `differences` [n], spread as they are.

    `power.seeds_needed` if the true mean and standard deviation are those observed (ddof 1). NaN for fewer than two
    differences, or where one is not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.size < 2 or not np.isfinite(values).all():
        return math.nan
    return seeds_needed(float(values.mean()), float(values.std(ddof=1)))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjustment of `p_values` [m], in the given order (Holm 1979).

    Rejecting where the result is at most α keeps the chance of any false rejection at most α. A NaN is
    a test that was not made: it stays NaN and does not count.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    steps = (len(order) - np.arange(len(order))) * p[order]
    adjusted = np.full_like(p, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def document_bootstrap(
    nll_a: ArrayLike, nll_b: ArrayLike, tokens: ArrayLike, resamples: int = 2000, seed: int = 0
) -> Interval:
    """95 % percentile interval of the difference a − b in nats per token, over resampled documents.

    Documents are drawn jointly for both models, so what makes a document hard for both cancels.

    Args:
        nll_a: Nats per document of model a, [documents].
        nll_b: The same documents' nats under model b, [documents].
        tokens: Their tokens, [documents].
        resamples: Bootstrap samples.
        seed: Of the resampling; equal seeds give equal intervals.

    Raises:
        InputError: the three differ in length or are empty.
    """
    a, b, t = (np.asarray(values, dtype=np.float64) for values in (nll_a, nll_b, tokens))
    if not a.size == b.size == t.size > 0:
        raise InputError(f"the same documents are needed for both models, got {a.size}, {b.size}, {t.size}")

    def per_token(nll: NDArray[np.float64], tokens: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        return np.asarray(nll.sum(axis=axis) / tokens.sum(axis=axis))

    mean = float(per_token(a - b, t))
    if a.size == 1 or not math.isfinite(mean):  # a diverged model has no interval either
        return Interval(mean, math.nan, math.nan, a.size)
    interval = stats.bootstrap(
        (a - b, t),
        per_token,
        n_resamples=resamples,
        batch=100,  # bounds memory: 100 × documents indices at a time
        paired=True,
        vectorized=True,
        method="percentile",
        random_state=np.random.default_rng(seed),  # the name that SciPy before 1.15 knows too
    ).confidence_interval
    return Interval(mean, float(interval.low), float(interval.high), a.size)
