"""How many seeds a difference takes to be resolved, and how small a difference a number of seeds can show.

A difference is resolved if its paired t interval excludes 0, and "can be" means with chance `POWER`. The true standard
deviation of the paired differences is taken to be that measured so far.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

POWER = 0.8
"""The chance of resolving a difference, the customary one (Cohen 1988)."""
MOST_PAIRS = 10_000


def pooled_std(groups: Iterable[ArrayLike]) -> float:
    """The standard deviation of paired differences about the mean of their group, over all groups.

    √(Σ (n − 1) s² / Σ (n − 1)): each pattern has a mean of its own, and of few seeds one s alone says little. NaN where
    no group has two differences.

    Args:
        groups: each pattern's differences from the baseline, one per seed pair.
    """
    arrays = [np.asarray(group, dtype=np.float64) for group in groups]
    degrees = sum(values.size - 1 for values in arrays if values.size)
    if degrees == 0:
        return math.nan
    return math.sqrt(sum(((values - values.mean()) ** 2).sum() for values in arrays if values.size) / degrees)


def power(effect: float, pairs: int, confidence: float = 0.95) -> float:
    """The chance that the interval of a mean of so many pairs, two at least, excludes 0.

    t² of the paired test is F(1, n − 1) with noncentrality n · effect².

    Args:
        effect: the true difference over the standard deviation of the differences.
        pairs: n.
        confidence: of the interval.
    """
    degrees = pairs - 1
    return float(stats.ncf.sf(stats.f.ppf(confidence, 1, degrees), 1, degrees, pairs * effect**2))


def seeds_needed(difference: float, std: float) -> float:
    """The fewest seed pairs that resolve a true `difference` with chance `POWER`.

    Infinite beyond `MOST_PAIRS`; NaN where one of the arguments is.

    Args:
        difference: of either sign, in the unit of `std`.
        std: standard deviation of the paired differences.
    """
    if math.isnan(difference) or math.isnan(std):
        return math.nan
    if std == 0:
        return 2 if difference else math.inf
    n = bisect_left(range(MOST_PAIRS + 1), POWER, lo=2, key=lambda n: power(difference / std, n))
    return n if n <= MOST_PAIRS else math.inf


def smallest_difference(std: float, pairs: int) -> float:
    """The smallest true difference, without sign, that so many seed pairs resolve with chance `POWER`.

    Infinite for fewer than two pairs, NaN where `std` is.

    Args:
        std: standard deviation of the paired differences.
        pairs: the seeds at hand.
    """
    if math.isnan(std):
        return math.nan
    if pairs < 2:
        return math.inf
    # With 2 pairs it is 9 standard deviations, with more it is fewer.
    return std * float(optimize.brentq(lambda effect: power(effect, pairs) - POWER, 0, 20))
