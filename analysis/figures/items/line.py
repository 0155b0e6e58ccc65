"""Differences against one key of the configuration."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.comparison import BASELINE
from analysis.figures.items.marks import (
    LOWER_IS_BETTER,
    SEEDS,
    judged,
    judged_legend,
    one_seed,
    series_handles,
    zero,
)
from analysis.figures.style import COLUMN, PAGE, Look, canvas, looks, styled
from analysis.items.columns import key_title, plain
from analysis.items.table import ItemTable
from analysis.statistics import paired_interval


def line(table: ItemTable) -> Figure:
    """How does the difference to the baseline change with a key of the configuration?

    Every seed is a dot, beside it the mean over seed pairs with its 95 % t-interval. Where the key is not the
    pattern's own, the losses stand beside the differences, a thin line a seed and a thick one their mean.
    """
    if table.item.figure["x"].startswith("pattern."):
        return _of_one_pattern(table)
    return _of_all_settings(table)


@styled
def _of_one_pattern(table: ItemTable) -> Figure:
    x = table.item.figure["x"]
    rows = table.rows[(table.rows["pattern"] != BASELINE) & (table.rows["pairs"] > 0)].sort_values(x)
    figure = canvas(COLUMN, 2.9)
    axes = figure.add_subplot()
    zero(axes)
    axes.plot(range(len(rows)), rows["delta"], color=SEEDS, linewidth=0.6, zorder=0)
    for n, (_, row) in enumerate(rows.iterrows()):
        judged(axes, n, table.deltas_of(row), row)
    _name(axes, x, rows[x])
    axes.set_ylabel(LOWER_IS_BETTER)
    judged_legend(figure, rows, columns=2)
    return figure


@styled
def _of_all_settings(table: ItemTable) -> Figure:
    x = table.item.figure["x"]
    rows, deltas = table.rows, table.deltas
    series = looks(dict.fromkeys(rows.sort_values("nats_per_token_mean")["pattern"]))
    values = sorted(rows[x].unique())
    figure = canvas(PAGE, 2.9)
    left, right = figure.subplots(1, 2)
    for pattern, look in series.items():
        _losses(left, table, pattern, values, look)
    zero(right)
    others = {pattern: look for pattern, look in series.items() if pattern in set(deltas["pattern"])}
    step = 0.7 / max(1, len(others))
    for i, (pattern, look) in enumerate(others.items()):
        for value, group in deltas[deltas["pattern"] == pattern].groupby(x):
            at = values.index(value) + (i - (len(others) - 1) / 2) * step
            right.plot([at - step / 5] * len(group), group["delta"], ".", color=look.colour, markersize=3, alpha=0.7)
            interval = paired_interval(group["delta"])
            if interval.exists:
                half = interval.high - interval.mean
                right.errorbar(at + step / 5, interval.mean, half, fmt=look.marker, color=look.colour, capsize=2)
    for axes, label in ((left, "loss (nats/token)"), (right, LOWER_IS_BETTER)):
        _name(axes, x, values)
        axes.set_ylabel(label)
    figure.legend(handles=[*series_handles(series), one_seed()], loc="outside lower center", ncols=2)
    return figure


def _losses(axes: Axes, table: ItemTable, pattern: str, values: list[object], look: Look) -> None:
    mine = table.losses[table.losses["pattern"] == pattern]
    wide = mine.pivot_table(index=table.item.figure["x"], columns="seed", values="nats_per_token")
    at = [values.index(value) for value in wide.index]
    axes.plot(at, wide, color=look.colour, linestyle=look.line, linewidth=0.4, alpha=0.5)
    axes.plot(at, wide.mean(axis=1), color=look.colour, linestyle=look.line, marker=look.marker)


def _name(axes: Axes, key: str, values: pd.Series | list[object]) -> None:
    axes.set_xticks(range(len(values)), [plain(value) for value in values])
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.set_xlabel(key_title(key))
