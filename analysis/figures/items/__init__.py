"""The figures of an item: the one that answers its question, in the kind that `item.yaml` asks for, and those that
every item has. One file each; the first line of a figure's docstring is the question that it answers, the second
paragraph says what its marks are."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from matplotlib.figure import Figure

from analysis.figures.items.baseline_curve import baseline_curve
from analysis.figures.items.classes import classes
from analysis.figures.items.curves import curves
from analysis.figures.items.grid import grid
from analysis.figures.items.heads import heads
from analysis.figures.items.line import line
from analysis.figures.items.rows import rows
from analysis.items.table import ItemTable
from sla_ablate.errors import InputError

__all__ = ["KINDS", "baseline_curve", "classes", "curves", "item_figure"]

KINDS: Mapping[str, Callable[[ItemTable], Figure]] = {"line": line, "grid": grid, "rows": rows, "heads": heads}


def item_figure(table: ItemTable) -> Figure:
    """The figure that answers an item's question.

    Raises:
        InputError: no pattern has a pair of done runs.
    """
    if table.deltas.empty:
        raise InputError(f"{table.item.name} at {table.scale} has no pattern with a pair of runs")
    return KINDS[table.item.figure["kind"]](table)
