"""What a difference of loss is worth: how much longer the baseline would have to be trained for the same loss.

A curve is fitted to baselines of several training lengths D, and of several sizes N if there are (Hoffmann et al. 2022,
arXiv 2203.15556, eq. 2): L = E + A·N^(−α) + B·D^(−β). Each of them is a run of its own, whose learning rate ends at its
D. A pattern with a difference Δ at D has the compute-equivalent gain D'/D, where the curve changes by Δ from D to D'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

Floats = NDArray[np.float64]
KEYS = ["tokens", "parameters", "seed"]
"""Columns of a table of runs, one row a run, beside its `loss`: training tokens D, parameters N, and the seed."""
FEWEST_LENGTHS = 4
REACH = 2.0
"""How far beyond the measured range of D, as a factor at either end, a curve is believed."""
HUBER = 1e-3
"""The residual of the log-loss up to which its square counts, beyond which its absolute value."""
LARGEST_EXPONENT = 4.0


@dataclass(frozen=True)
class LossCurve:
    """L(D, N) = E + A·N^(−α) + B·D^(−β), in nats per token; A is 0 where all runs are of one size."""

    E: float
    B: float
    beta: float
    A: float = 0.0
    alpha: float = 0.0

    def __str__(self) -> str:
        size = f" + {self.A:.4g}·N^−{self.alpha:.3f}" if self.A else ""
        return f"L = {self.E:.4g}{size} + {self.B:.4g}·D^−{self.beta:.3f}"

    def loss(self, tokens: ArrayLike, parameters: ArrayLike = 1) -> Floats:
        """The loss after so many training tokens of a model of so many parameters."""
        D, N = np.asarray(tokens, dtype=np.float64), np.asarray(parameters, dtype=np.float64)
        return np.asarray(self.E + self.A * N**-self.alpha + self.B * D**-self.beta)

    def tokens(self, loss: float, parameters: float = 1) -> float:
        """The training tokens after which a model of so many parameters has this loss; infinite if it never has."""
        above = loss - self.E - self.A * parameters**-self.alpha
        if above <= 0 or self.beta == 0:
            return math.inf
        with np.errstate(over="ignore"):
            return float(np.float64(self.B / above) ** (1 / self.beta))


@dataclass(frozen=True)
class Gain:
    """A compute-equivalent gain: above 1 where the pattern is worth more training than it had."""

    factor: float = math.nan
    """D'/D; NaN where there is none."""
    low: float = math.nan
    high: float = math.nan
    """The 95 % interval; a bound that is beyond the curve's reach is 0 or infinite, and NaN where there is none."""
    pairs: int = 0
    """Pairs of runs, by seed."""
    reason: str = ""
    """Why there is no factor or no interval, for a caption."""


class Baselines:
    """The baseline's runs and the curve through them.

    The interval of a gain is Student's t interval of its logarithm, with the jackknife's standard error: a seed is left
    out of the curve and of the difference together, each in turn. At few seeds it keeps its coverage, where a bootstrap
    does not.

    Attributes:
        runs: one row a run, columns `KEYS` and `loss`.
        curve: the curve, or None where there is a reason.
        reason: why there is no curve, for a caption; empty where there is one.
    """

    def __init__(self, runs: pd.DataFrame) -> None:
        self.runs = runs
        self.reason = _why_not(runs)
        self.curve = None if self.reason else fit(runs)
        self._without: dict[int, LossCurve] = {}
        """The curve without the runs of each seed, if enough remain."""
        for seed in [] if self.reason else runs["seed"].unique():
            others = runs[runs["seed"] != seed]
            if not _why_not(others):
                self._without[int(seed)] = fit(others)

    def residuals(self) -> pd.DataFrame:
        """The runs with the curve's loss as `fitted` and what they are above it as `residual`, in nats per token."""
        assert self.curve is not None
        fitted = self.curve.loss(self.runs["tokens"], self.runs["parameters"])
        return self.runs.assign(fitted=fitted, residual=self.runs["loss"] - fitted)

    def gain(self, runs: pd.DataFrame) -> Gain:
        """The gain of a pattern's runs of one length and size over the baseline's of the same seeds.

        Args:
            runs: columns as in `Baselines.runs`.
        """
        if self.curve is None:
            return Gain(reason=self.reason)
        pairs = runs.merge(self.runs, on=KEYS, suffixes=("", "_baseline")).set_index("seed")
        delta = pairs["loss"] - pairs["loss_baseline"]
        if delta.empty:
            return Gain(reason="no baseline has the seed, length and size of one of the pattern's runs")
        if not np.isfinite(delta).all():
            return Gain(pairs=len(delta), reason="the pattern has a run without a finite loss")
        D, N = float(pairs["tokens"].iloc[0]), float(pairs["parameters"].iloc[0])
        least, most = self.runs["tokens"].min() / REACH / D, self.runs["tokens"].max() * REACH / D
        factor = _factor(self.curve, delta, D, N)
        if not least <= factor <= most:
            reason = (
                f"not within {least:.3g} to {most:.3g} times the tokens, as far as the baseline's curve is believed"
            )
            return Gain(pairs=len(delta), reason=reason)
        if len(delta) < 2 or len(self._without) < self.runs["seed"].nunique():
            return Gain(factor, pairs=len(delta), reason="too few seeds for an interval")
        others = [_factor(curve, delta.drop(seed, errors="ignore"), D, N) for seed, curve in self._without.items()]
        with np.errstate(divide="ignore", over="ignore"):  # a curve may never have the loss, a bound may be far away
            logs = np.log(others)
            error = math.sqrt((len(logs) - 1) * logs.var()) if np.isfinite(logs).all() else math.inf
            half = stats.t.ppf(0.975, len(delta) - 1) * error
            low, high = np.exp(math.log(factor) + np.array([-half, half])).tolist()
        return Gain(factor, low if low >= least else 0.0, high if high <= most else math.inf, len(delta))


def _why_not(runs: pd.DataFrame) -> str:
    """Why runs are not enough for a curve, or an empty string."""
    lengths = runs["tokens"].nunique()
    if lengths < FEWEST_LENGTHS:
        return f"the baseline was trained to {lengths} length(s), and a curve takes {FEWEST_LENGTHS}"
    return "" if np.isfinite(runs["loss"]).all() else "the baseline has a run without a finite loss"


def _factor(curve: LossCurve, delta: pd.Series[float], D: float, N: float) -> float:
    """D'/D, from the paired differences rather than the pattern's loss: what a seed does to both cancels."""
    return curve.tokens(float(curve.loss(D, N)) + float(delta.mean()), N) / D


def fit(runs: pd.DataFrame) -> LossCurve:
    """The curve with the least Huber loss of the residuals of log L, at `HUBER`, over the runs.

    Args:
        runs: columns `tokens`, `parameters` and `loss`.
    """
    names = ["tokens", "parameters"][: 1 + (runs["parameters"].nunique() > 1)]
    loss = runs["loss"].to_numpy(np.float64)
    logs = np.log(runs[names].to_numpy(np.float64))
    centre = logs.mean(axis=0)
    # About their centre exponents and scales hardly depend on each other: L = E + Σ s·exp(−e·x).
    x = logs - centre
    axes = len(names)

    def powers(exponents: Floats) -> Floats:
        return np.asarray(np.exp(-x * exponents))

    def residuals(theta: Floats) -> Floats:
        return np.asarray(np.log(theta[0] + powers(theta[1 + axes :]) @ theta[1 : 1 + axes]) - np.log(loss))

    def jacobian(theta: Floats) -> Floats:
        terms = powers(theta[1 + axes :])
        scaled = terms * theta[1 : 1 + axes]
        columns = np.column_stack([np.ones_like(loss), terms, -x * scaled])
        return np.asarray(columns / (theta[0] + scaled.sum(axis=1))[:, None])

    def start(exponents: tuple[float, ...]) -> tuple[float, Floats]:
        """With exponents given, the relative residual, nearly that of the logarithms, is linear in all else."""
        columns = np.column_stack([np.ones_like(loss), powers(np.array(exponents))])
        linear, norm = optimize.nnls(columns / loss[:, None], np.ones_like(loss))
        return float(norm), np.concatenate([linear, exponents])

    grid = np.stack(np.meshgrid(*[np.geomspace(0.02, 2, 12)] * axes), axis=-1).reshape(-1, axes)
    _, best = min((start(tuple(exponents)) for exponents in grid), key=lambda found: found[0])
    solution = optimize.least_squares(
        residuals,
        best,
        jacobian,
        bounds=(0, [np.inf] * (1 + axes) + [LARGEST_EXPONENT] * axes),
        loss="huber",
        f_scale=HUBER,
        x_scale="jac",
        ftol=1e-14,
        xtol=1e-12,
        gtol=1e-15,
        max_nfev=1000,
    ).x
    scales = solution[1 : 1 + axes] * np.exp(centre * solution[1 + axes :])
    terms = [float(each) for pair in zip(scales, solution[1 + axes :], strict=True) for each in pair]
    return LossCurve(float(solution[0]), *terms)
