"""Loss while training."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.comparison import paired_deltas
from analysis.figures.panels import pattern_handles, seeds_and_mean, tell_left_out
from analysis.figures.shown import shown_patterns
from analysis.figures.style import COLUMN, styled
from analysis.sweep_data import SweepData

POINTS = 50
"""The most points of a curve; each is a mean over as many lines of the log as need be."""


@styled
def training(data: SweepData) -> Figure:
    """Did all runs converge, and when in training does a difference to the baseline arise?

    Above, the training loss: thin lines are seeds, thick ones means; crosses are validation. Below, the differences to
    the baseline on the same batches.
    """
    looks = {pattern: look._replace(marker="") for pattern, look in shown_patterns(data).items()}
    curves = data.training()
    train = _thinned(curves[curves["loss"].notna()])
    deltas = paired_deltas(train, "step").rename(columns={"delta": "value"})
    figure = Figure(figsize=(COLUMN, 3.6), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    for pattern, look in looks.items():
        for axes, table in ((above, train), (below, deltas)):
            seeds_and_mean(axes, table[table["pattern"] == pattern], "step", look)
        validation = curves[(curves["pattern"] == pattern) & curves["validation_loss"].notna()]
        above.plot(validation["step"], validation["validation_loss"], "x", color=look.colour, markersize=3)
    below.axhline(0, color="black", linewidth=0.6, zorder=0)
    above.set_ylabel("loss (nats/token)")
    below.set_ylabel("Δ to baseline\n(nats/token)")
    below.set_xlabel("optimizer steps")
    cross = Line2D([], [], color="black", marker="x", linestyle="none", markersize=3, label="validation")
    figure.legend(handles=[*pattern_handles(looks), cross], loc="outside lower center")
    tell_left_out(figure, data)
    return figure


def _thinned(curves: pd.DataFrame) -> pd.DataFrame:
    """Columns as of `paired_deltas`; a step is the last of those that its value is a mean over."""
    steps = sorted(curves["step"].unique())
    width = -(-len(steps) // POINTS)
    last = {step: steps[min(i // width * width + width, len(steps)) - 1] for i, step in enumerate(steps)}
    curves = curves.assign(step=curves["step"].map(last), value=curves["loss"])
    return curves.groupby(["pattern", "seed", "pairing", "step"])["value"].mean().reset_index()
