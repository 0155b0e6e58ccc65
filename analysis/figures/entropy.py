"""How widely each head looks."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.figures.panels import heads_by_layer
from analysis.figures.style import styled
from analysis.sweep_data import SweepData


@styled
def entropy(data: SweepData) -> Figure:
    """Which heads look at few tokens and which at nearly all, and do skip heads differ from own heads in it?

    Every head of every seed, as a share of the entropy of uniform attention, the line at 1.
    """
    figure, panels = heads_by_layer(data, "normalised_entropy", "entropy / ln(keys seen)")
    for axes in panels:
        axes.axhline(1, color="black", linewidth=0.8, linestyle=(0, (4, 2)), zorder=0)
        axes.set_ylim(0, 1.12)
    panels[0].annotate("uniform", (1, 1.01), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    return figure
