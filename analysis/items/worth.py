"""What the differences of a table are worth in training compute, from the baseline's curve over training lengths."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.compute_equivalence import KEYS, Baselines
from analysis.evidence import is_baseline
from sla_ablate.items.lines import Line

_FREE = ("steps", "warmup_steps")
"""Options of training in which the baselines of one curve differ: how long, and the warm-up that goes with it."""


class Curves:
    """The curves of the baselines that there are, one a recipe."""

    def __init__(self, baselines: Iterable[Line]) -> None:
        self._lines: dict[str, dict[str, Line]] = {}
        for line in baselines:
            if line["state"] == "done" and is_baseline(line):
                self._lines.setdefault(_recipe(line), {})[line["run_id"]] = line
        self._fitted: dict[str, Baselines] = {}

    def worth(self, runs: Sequence[Mapping[str, Any]], delta: float) -> dict[str, float]:
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
        if not runs:
            return nothing
        recipe = _recipe(runs[0])
        lines = self._lines.get(recipe, {})
        if is_baseline(runs[0]) or not lines:
            return nothing
        if recipe not in self._fitted:
            self._fitted[recipe] = Baselines(_losses(lines.values()))
        baselines = self._fitted[recipe]
        gain = baselines.gain(_losses(runs))
        if baselines.curve is None or not gain.pairs:
            return nothing
        cost = runs[0]["cost"]
        per_token = next(iter(lines.values()))["cost"]["training_flops_per_token"]
        share = cost["training_flops_per_token"] / per_token
        here, less = (float(baselines.curve.loss(cost["tokens"] * part, cost["parameters"])) for part in (1.0, share))
        return {
            "worth": gain.factor,
            "worth_low": gain.low,
            "worth_high": gain.high,
            "delta_at_equal_flops": delta + here - less,
        }


def _losses(runs: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a run, as `Baselines` takes them."""
    rows = [
        {**{name: run["cost"].get(name, run.get(name)) for name in KEYS}, "loss": _nats_per_token(run)} for run in runs
    ]
    return pd.DataFrame(rows, columns=[*KEYS, "loss"])


def _nats_per_token(run: Mapping[str, Any]) -> float:
    nll, tokens = (run["validation"][name] for name in ("nll", "tokens"))
    return float(nll / tokens)


def _recipe(run: Mapping[str, Any]) -> str:
    """All that a run's result depends on but pattern, seed and training length."""
    config = run["config"]
    optim = {name: value for name, value in config["optim"].items() if name not in _FREE}
    parts = [run["schema"], run["data"], run["environment"]["precision"], config["model"], optim]
    return json.dumps([*parts, config.get("evaluation")], sort_keys=True)
