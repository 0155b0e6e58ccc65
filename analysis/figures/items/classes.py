"""Differences by class of token."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.items.marks import LOWER_IS_BETTER, zero
from analysis.figures.style import PAGE, Look, canvas, styled, wrap
from analysis.items.classes import CLASSES, PARTITIONS, class_table, extremes
from analysis.items.table import ItemTable
from sla_ablate.errors import InputError

_LOOKS = (Look("#0072B2", "s"), Look("#D55E00", "^"))


@styled
def classes(table: ItemTable) -> Figure:
    """Where is the difference: at which tokens do the best and the worst row differ from the baseline?

    Means over seed pairs with 95 % t-intervals, for the row of lowest loss against the baseline and the one of highest:
    by how often the token occurs in the training text, by whether it begins a word, by whether its bigram was seen
    before in the context, and by its position there.

    Raises:
        InputError: no pair of runs tells its loss by class.
    """
    found = class_table(table)
    if found.empty:
        raise InputError(f"{table.item.name} at {table.scale} has no pair of runs with losses by class of token")
    chosen = extremes(table)
    partitions = list(dict.fromkeys(found["partition"]))
    figure = canvas(PAGE, 2.9)
    widths = [3 + found[found["partition"] == partition]["class"].nunique() for partition in partitions]
    panels = figure.subplots(1, len(partitions), sharey=True, width_ratios=widths, squeeze=False)[0]
    for axes, partition in zip(panels, partitions, strict=True):
        zero(axes)
        mine = found[found["partition"] == partition]
        names = list(dict.fromkeys(mine["class"]))
        for (_, row), look, shift in zip(chosen.iterrows(), _LOOKS, (-0.14, 0.14), strict=False):
            of_it = mine[(mine["pattern"] == row["pattern"]) & (mine["setting"] == row["setting"])]
            at = [names.index(name) + shift for name in of_it["class"]]
            half = (of_it["delta_high"] - of_it["delta"]).fillna(0)
            axes.errorbar(at, of_it["delta"], half, fmt=look.marker, color=look.colour, capsize=1.5, elinewidth=0.7)
        axes.set_xticks(range(len(names)), [CLASSES.get(name, name) for name in names], rotation=90)
        axes.set_xlim(-0.6, len(names) - 0.4)
        axes.set_title(PARTITIONS.get(partition, partition).replace(", ", "\n"))
    panels[0].set_ylabel(LOWER_IS_BETTER)
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle="none", label=wrap(row["pattern"], 45))
        for (_, row), look in zip(chosen.iterrows(), _LOOKS, strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure
