"""The baseline's loss over training lengths."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from analysis.compute_equivalence import REACH
from analysis.figures.items.marks import SEEDS
from analysis.figures.style import PAGE, canvas, styled
from analysis.items.table import ItemTable
from sla_ablate.errors import InputError


@styled
def baseline_curve(table: ItemTable) -> Figure:
    """How much longer would the baseline have to be trained for a difference of loss?

    Left, the loss of every baseline by its training tokens, each run with a learning rate that ends there, and the
    curve fitted to them, as far as it is believed. Right, what the runs are above it.

    Raises:
        InputError: there is no curve.
    """
    found = next((found for found in map(table.curves.of, table.done) if found.curve), None)
    if found is None or found.curve is None:
        raise InputError(f"{table.item.name} at {table.scale} has no curve of the baseline")
    figure = canvas(PAGE, 2.6)
    left, right = figure.subplots(1, 2, sharex=True)
    runs = found.residuals()
    for _, size in runs.groupby("parameters"):
        tokens = np.geomspace(size["tokens"].min() / REACH, size["tokens"].max() * REACH, 200)
        left.plot(tokens / 1e6, found.curve.loss(tokens, size["parameters"].iloc[0]), color="black", linewidth=0.9)
        left.plot(size["tokens"] / 1e6, size["loss"], "o", color=SEEDS, markersize=3)
        right.plot(size["tokens"] / 1e6, size["residual"], "o", color=SEEDS, markersize=3)
    right.axhline(0, color="black", linewidth=0.8, zorder=0)
    left.set_xscale("log")
    left.xaxis.set_major_formatter(ScalarFormatter())
    left.xaxis.set_minor_formatter(NullFormatter())
    left.set_ylabel("loss of the baseline (nats/token)")
    right.set_ylabel("above the curve (nats/token)")
    for axes in (left, right):
        axes.set_xlabel("training tokens (M)")
    return figure
