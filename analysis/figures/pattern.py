"""Which layer each head reads."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from analysis.figures.panels import page, tell_left_out
from analysis.figures.shown import shown_runs
from analysis.figures.style import COLUMN, OWN, PAGE, SHOWN, SKIP, styled, wrap
from analysis.sweep_data import SweepData
from sla_ablate.patterns import SkipPattern, diagram


@styled
def pattern(data: SweepData) -> Figure:
    """What are the patterns: which heads are skip heads, and which layer do they read?

    An arc leads from a skip head down to the layer whose keys and values it reads; where keys and values are read from
    different layers, they have a panel each. A hollow marker is a head whose own keys and values no head reads.
    """
    runs = [record["pattern"] for record in shown_runs(data)]
    figure = drawn_patterns(
        {run["label"]: SkipPattern.from_tables(run["key_source"], run["value_source"]) for run in runs}
    )
    tell_left_out(figure, data)
    return figure


@styled
def drawn_patterns(patterns: Mapping[str, SkipPattern]) -> Figure:
    """Patterns of one shape, each with its name, as `pattern` shows those of a sweep."""
    panels = [
        (f"{wrap(label)}\n{panel[0]}", panel) for label, each in patterns.items() for panel in diagram.panels(each)
    ]
    columns = min(len(panels), SHOWN)
    rows = -(-len(panels) // columns)
    n_layer, n_head = panels[0][1][1].shape
    width = min(PAGE, max(COLUMN, 0.9 + columns * max(1.3, 0.3 * n_head)))
    figure, grid = page(rows, columns, rows * (0.9 + 0.22 * n_layer) + 0.4, width, sharey="all", sharex="none")
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (title, panel) in zip(grid.flat, panels, strict=False):
        _draw(axes, *panel)
        axes.set_title(title)
        axes.set_xlabel("head")
    for axes in grid[:, 0]:
        axes.set_ylabel("layer")
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, markersize=5, linestyle="none", label=label)
        for look, label in ((OWN, "own head"), (SKIP, "skip head"))
    ]
    hollow = Line2D(
        [], [], color=SKIP.colour, marker=SKIP.marker, markersize=5, markerfacecolor="white", linestyle="none",
        label="skip head, own keys and values not computed",
    )  # fmt: skip
    figure.legend(handles=[*handles, hollow], loc="outside lower center", ncols=3 if columns > 2 else 1)
    return figure


def _draw(axes: Axes, what: str, source: diagram.Table, read: diagram.Mask) -> None:
    n_layer, n_head = source.shape
    for layer in range(n_layer):
        for head in range(n_head):
            below = layer - int(source[layer, head])
            look = SKIP if below else OWN
            face = look.colour if read[layer, head] else "white"
            axes.plot(head, layer, look.marker, color=look.colour, markerfacecolor=face, markersize=5, clip_on=False)
            if below:
                bulge = 0.5 + 0.9 * (layer % below) / below  # so that arcs side by side do not run into each other
                arc = Path(
                    [(head, layer), (head + bulge, layer - below / 2), (head, layer - below)],
                    [Path.MOVETO, Path.CURVE3, Path.CURVE3],
                )
                axes.add_patch(PathPatch(arc, fill=False, edgecolor=look.colour, linewidth=0.8, zorder=1))
    axes.set_xlim(-0.5, n_head - 0.3)
    axes.set_ylim(-0.5, n_layer - 0.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=6))
