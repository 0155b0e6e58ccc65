"""Differences of all rows of a table."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.comparison import BASELINE
from analysis.figures.items.marks import DELTA, judged, judged_legend
from analysis.figures.style import PAGE, canvas, styled, wrap
from analysis.items.columns import key_title, plain
from analysis.items.table import ItemTable


@styled
def rows(table: ItemTable) -> Figure:
    """Which rows have a lower loss than the baseline, and do the seeds resolve it?

    Every seed is a dot, below it the mean over seed pairs with its 95 % t-interval; the lowest is at the top.
    """
    found = table.rows[(table.rows["pattern"] != BASELINE) & (table.rows["pairs"] > 0)].sort_values("delta")
    # The keys of patterns are in their names, and one that is the same for all says nothing.
    own = [key for key in table.item.rows if not key.startswith("pattern.") and found[key].nunique() > 1]
    names = []
    for _, row in found.iterrows():
        keys = [f"{key_title(key).lower()} {plain(row[key])}" for key in own]
        names.append(wrap(", ".join([row["pattern"], *keys]), 46))
    lines = max(name.count("\n") + 1 for name in names)
    figure = canvas(PAGE, 0.9 + max(0.3, 0.13 * lines + 0.05) * len(found))
    axes = figure.add_subplot()
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color="black", linewidth=0.8, zorder=0)
    axes.annotate(BASELINE, (0, 1), xycoords=axes.get_xaxis_transform(), ha="center", va="bottom")
    for n, (_, row) in enumerate(found.iterrows()):
        judged(axes, n, table.deltas_of(row), row, upright=False)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"{DELTA} (lower is better)")
    judged_legend(figure, found, columns=4)
    return figure
