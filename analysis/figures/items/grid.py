"""Differences over two keys of the configuration."""

from __future__ import annotations

import matplotlib as mpl
import pandas as pd
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from analysis.comparison import BASELINE
from analysis.figures.items.marks import DELTA
from analysis.figures.style import PAGE, canvas, styled
from analysis.items.columns import delta_text, key_title, minus, plain
from analysis.items.table import ItemTable, verdict

DIVERGING = "RdBu_r"
"""Blue below zero, red above, white at it; in grey the sign is that of the number in the cell."""


@styled
def grid(table: ItemTable) -> Figure:
    """Where in the grid of two keys is the loss lower than the baseline's?

    Each cell has the mean difference with its 95 % t-interval over seed pairs, bold where it is resolved after Holm's
    adjustment; blue is lower, which is better. A frame marks a cell of which a difference was published.
    """
    x, y = table.item.figure["x"], table.item.figure["y"]
    rows = table.rows[(table.rows["pattern"] != BASELINE) & (table.rows["pairs"] > 0)]
    wide = rows.pivot_table(index=y, columns=x, values="delta")
    figure = canvas(PAGE, 1.2 + 0.42 * len(wide))
    axes = figure.add_subplot()
    extent = max(float(wide.abs().max().max()), 1e-6)
    image = axes.imshow(wide, cmap=DIVERGING, norm=TwoSlopeNorm(0, -extent, extent), aspect="auto", origin="lower")
    for _, row in rows.iterrows():
        place = (list(wide.columns).index(row[x]), list(wide.index).index(row[y]))
        text = delta_text(row, digits=3).replace(" [", "\n[")
        axes.annotate(
            minus(text), place, ha="center", va="center", fontsize=mpl.rcParams["legend.fontsize"],
            fontweight="normal" if verdict(row) == "not resolved" else "bold",
            color="white" if abs(row["delta"]) > 0.6 * extent else "black",
        )  # fmt: skip
        if pd.notna(row["published_delta"]):
            corner = (place[0] - 0.47, place[1] - 0.46)
            axes.add_patch(Rectangle(corner, 0.94, 0.92, fill=False, edgecolor="black", linewidth=1.8))
    published = {f"published: Δ {minus(f'{value.delta:+g}')} ({value.unit})" for value in table.item.published
                 if value.delta in set(rows["published_delta"].dropna())}  # fmt: skip
    if published:
        handles = [Patch(fill=False, edgecolor="black", linewidth=1.8, label=label) for label in published]
        figure.legend(handles=handles, loc="outside lower left")
    axes.set_xticks(range(wide.shape[1]), [plain(value) for value in wide.columns])
    axes.set_yticks(range(wide.shape[0]), [plain(value) for value in wide.index])
    axes.set_xlabel(key_title(x))
    axes.set_ylabel(key_title(y))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label=DELTA, pad=0.01)
    return figure
