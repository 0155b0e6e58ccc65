"""Loss while training."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.comparison import paired_deltas
from analysis.figures.panels import pattern_handles, seeds_and_mean, tell_left_out
from analysis.figures.shown import shown_patterns
from analysis.figures.style import COLUMN, canvas, styled
from analysis.sweep_data import SweepData

POINTS = 50
"""The most points of a curve; each is a mean over as many lines of the log as need be."""


@styled
def training(data: SweepData) -> Figure:
    """Did all runs converge, and when in training does a difference to the baseline arise?

    Above, the training loss, means over seeds, each line wider than the one above it so that none hides another;
    crosses are validation. Below, the differences to the baseline on the same batches: thin lines are seeds, thick ones
    means.
    """
    looks = {pattern: look._replace(marker="") for pattern, look in shown_patterns(data).items()}
    curves = data.training()
    train = _thinned(curves[curves["loss"].notna()])
    deltas = paired_deltas(train, "step").rename(columns={"delta": "value"})
    has_pairs = not deltas.empty
    figure = canvas(COLUMN, 3.6 if has_pairs else 2.4)
    panels = figure.subplots(1 + has_pairs, sharex=True, squeeze=False)[:, 0]
    for n, (pattern, look) in enumerate(looks.items()):
        mean = train[train["pattern"] == pattern].groupby("step")["value"].mean()
        panels[0].plot(mean.index, mean, color=look.colour, linewidth=0.8 * (len(looks) - n))
        validation = curves[(curves["pattern"] == pattern) & curves["validation_loss"].notna()]
        panels[0].plot(validation["step"], validation["validation_loss"], "x", color=look.colour, markersize=3)
        if has_pairs:
            seeds_and_mean(panels[1], deltas[deltas["pattern"] == pattern], "step", look)
    panels[0].set_ylabel("loss (nats/token)")
    if has_pairs:
        panels[1].axhline(0, color="black", linewidth=0.6, zorder=0)
        panels[1].set_ylabel("Δ to baseline\n(nats/token)")
    panels[-1].set_xlabel("optimizer steps")
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
