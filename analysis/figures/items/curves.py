"""Loss while training."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from analysis.comparison import paired_deltas
from analysis.figures.items.marks import DELTA, series_handles, zero
from analysis.figures.style import PAGE, canvas, looks, styled
from analysis.items.table import ItemTable
from sla_ablate.errors import InputError


@styled
def curves(table: ItemTable) -> Figure:
    """Did all runs converge, and when in training does a difference arise?

    Left, the training loss of every run, the loss of single batches. Right, the differences to the baseline on the same
    batches, means over seeds. Patterns beyond those of lowest loss are all in the same grey.

    Raises:
        InputError: no run tells its loss while training.
    """
    points = pd.DataFrame(
        [
            {**{name: record[name] for name in ("run_id", "setting", "pairing", "seed")}, "step": step, "value": value}
            | {"pattern": record["pattern"]["label"]}
            for record in table.records
            for step, value in record["curve"]
        ]
    )
    if points.empty:
        raise InputError(f"{table.item.name} at {table.scale} has no training curves")
    points["value"] = points["value"].astype(float)
    series = looks(dict.fromkeys(table.rows.sort_values("nats_per_token_mean")["pattern"]))
    figure = canvas(PAGE, 3.0)
    left, right = figure.subplots(1, 2, sharex=True)
    zero(right)
    points["at"] = points["setting"] + " " + points["step"].astype(str)  # both are a part of what is a pair
    deltas = paired_deltas(points, "at")
    deltas[["setting", "step"]] = deltas["at"].str.split(" ", expand=True).astype({1: int})
    for pattern in reversed(series):  # what has a colour of its own above what has not
        look = series[pattern]
        for _, run in points[points["pattern"] == pattern].groupby(["run_id", "pairing"]):
            _draw(left, run.set_index("step")["value"], color=look.colour, linewidth=0.4, alpha=0.6)
        for _, group in deltas[deltas["pattern"] == pattern].groupby("setting"):
            mean = group.groupby("step")["delta"].mean()
            _draw(right, mean, color=look.colour, linestyle=look.line, linewidth=0.9)
    left.set_xscale("log")
    left.xaxis.set_major_formatter(ScalarFormatter())
    left.xaxis.set_minor_formatter(NullFormatter())
    left.set_ylabel("training loss (nats/token)")
    right.set_ylabel(f"{DELTA},\nmean over seeds")
    for axes in (left, right):
        axes.set_xlabel("step")
    figure.legend(handles=series_handles(series), loc="outside lower center", ncols=2)
    return figure


def _draw(axes: Axes, points: pd.Series[float], **style: Any) -> None:
    """A line, or the one point that there is."""
    axes.plot(points.index, points, marker="." if len(points) == 1 else "", **style)
