"""How far back each head looks."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.figures.panels import heads_by_layer
from analysis.figures.style import styled
from analysis.sweep_data import SweepData


@styled
def distance(data: SweepData) -> Figure:
    """Which heads look at the tokens just before and which far back, and do skip heads reach further than own heads?

    Every head of every seed: the mean distance of what it attends to, without attention on the first token, which
    would count as far.
    """
    figure, _ = heads_by_layer(
        data, "attention_distance_off_sink", "attention distance (tokens),\nfirst token left out"
    )
    return figure
