"""What the differences of a table are worth in training compute, from the baseline's curve over training lengths."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from analysis.compute_equivalence import KEYS, Baselines
from analysis.evidence import is_baseline
from analysis.items.baselines import Run, Siblings, nats_per_token
from sla_ablate.items.lines import Line

_LENGTH = ("optim.steps", "optim.warmup_steps")
"""Options of training in which the baselines of one curve differ: how long, and the warm-up that goes with it."""


class Curves:
    """The curves of the baselines that there are, one a recipe."""

    def __init__(self, baselines: Iterable[Line]) -> None:
        self._siblings = Siblings(baselines, _LENGTH)
        self._fitted: dict[str, Baselines] = {}

    def of(self, run: Run) -> Baselines:
        """The baselines of a run's recipe with their curve, or the reason why there is none."""
        recipe = self._siblings.recipe(run)
        if recipe not in self._fitted:
            self._fitted[recipe] = Baselines(_losses(self._siblings.of(run)))
        return self._fitted[recipe]

    def worth(self, runs: Sequence[Run], delta: float) -> dict[str, float]:
        """What the difference of a row is worth; NaN where the baselines allow no statement.

        Args:
            runs: the row's, records or lines.
            delta: its mean difference, in nats per token.

        Returns:
            `worth` with its 95 % interval, `worth_low` and `worth_high`: the factor of training compute by which the
            baseline would have to be trained longer; and `delta_at_equal_flops`: the difference to a baseline that is
            trained with as many FLOPs in all as the pattern, which may need fewer for a token.
        """
        nothing = dict.fromkeys(("worth", "worth_low", "worth_high", "delta_at_equal_flops"), math.nan)
        if not runs or is_baseline(runs[0]):
            return nothing
        baselines = self.of(runs[0])
        gain = baselines.gain(_losses(runs))
        if baselines.curve is None or not gain.pairs:
            return nothing
        cost = runs[0]["cost"]
        per_token = self._siblings.of(runs[0])[0]["cost"]["training_flops_per_token"]
        share = cost["training_flops_per_token"] / per_token
        here, less = (float(baselines.curve.loss(cost["tokens"] * part, cost["parameters"])) for part in (1.0, share))
        return {
            "worth": gain.factor,
            "worth_low": gain.low,
            "worth_high": gain.high,
            "delta_at_equal_flops": delta + here - less,
        }


def _losses(runs: Iterable[Run]) -> pd.DataFrame:
    """One row a run, as `Baselines` takes them."""
    rows = [
        {**{name: run["cost"].get(name, run.get(name)) for name in KEYS}, "loss": nats_per_token(run)} for run in runs
    ]
    return pd.DataFrame(rows, columns=[*KEYS, "loss"])
