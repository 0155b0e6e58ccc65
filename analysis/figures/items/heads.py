"""Diversity of heads against the loss."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.items.marks import LOWER_IS_BETTER, one_seed
from analysis.figures.style import PAGE, Look, canvas, styled, wrap
from analysis.items.table import ItemTable
from analysis.statistics import paired_interval
from sla_ablate.errors import InputError

_COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#0072B2", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "s^DvoP*X<>"
"""Seven colours and ten markers, so that the first seventy patterns look all different."""


@styled
def heads(table: ItemTable) -> Figure:
    """Does a change of the heads' diversity go with a change of the loss?

    A small mark is a seed pair, a large one the mean of a pattern with its 95 % t-intervals. Right of the vertical line
    heads are more diverse than the baseline's, below the horizontal one the loss is lower.

    Raises:
        InputError: no pair of runs has measured heads.
    """
    pairs = table.head_deltas
    if pairs.empty:
        raise InputError(f"{table.item.name} at {table.scale} has no pair of runs whose heads were measured")
    ranked = dict.fromkeys(table.rows.sort_values("nats_per_token_mean")["pattern"])
    patterns = [pattern for pattern in ranked if pattern in set(pairs["pattern"])]
    figure = canvas(PAGE, max(3.2, 0.9 + 0.3 * len(patterns)))
    axes = figure.add_subplot()
    axes.axhline(0, color="black", linewidth=0.8, zorder=0)
    axes.axvline(0, color="black", linewidth=0.8, zorder=0)
    handles = [one_seed()]
    for n, pattern in enumerate(patterns):
        look = Look(_COLOURS[n % len(_COLOURS)], _MARKERS[n % len(_MARKERS)])
        mine = pairs[pairs["pattern"] == pattern]
        axes.plot(mine["heads"], mine["delta"], look.marker, color=look.colour, markersize=2.5, alpha=0.6)
        x, y = paired_interval(mine["heads"]), paired_interval(mine["delta"])
        bars = (y.high - y.mean, x.high - x.mean) if x.exists else (None, None)
        axes.errorbar(
            x.mean, y.mean, bars[0], bars[1], fmt=look.marker, color=look.colour, markersize=6, markeredgecolor="black",
            markeredgewidth=0.6, elinewidth=0.8,
        )  # fmt: skip
        handles.append(
            Line2D([], [], color=look.colour, marker=look.marker, linestyle="none", markersize=5,
                   markeredgecolor="black", markeredgewidth=0.6, label=wrap(pattern, 28))
        )  # fmt: skip
    corner: dict[str, Any] = {"xycoords": "axes fraction", "color": "#555555"}
    axes.annotate("more diverse, lower loss", (0.99, 0.02), ha="right", va="bottom", **corner)
    axes.annotate("less diverse, higher loss", (0.01, 0.98), ha="left", va="top", **corner)
    axes.margins(0.08)
    axes.set_xlabel("Δ generalised JSD of the heads to baseline\n(nats, mean over layers)")
    axes.set_ylabel(LOWER_IS_BETTER)
    figure.legend(handles=handles, loc="outside right center", labelspacing=0.7)
    return figure
