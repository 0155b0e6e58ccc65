"""Marks that the figures of items share."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.panels import pattern_handles
from analysis.figures.style import SHOWN, Look
from analysis.items.table import verdict
from analysis.statistics import paired_interval

DELTA = "Δ nats/token to baseline"
LOWER_IS_BETTER = f"{DELTA}\n(lower is better)"
SEEDS = "#777777"
VERDICTS = {
    "lower": Look("#0072B2", "v"),
    "higher": Look("#D55E00", "^"),
    "not resolved": Look(SEEDS, "o"),
}
"""How a mean looks, by colour and marker: what the paired test says of it after Holm's adjustment."""


def zero(axes: Axes) -> None:
    """The line of the baseline, from which differences are."""
    axes.axhline(0, color="black", linewidth=0.8, zorder=0)


def judged(axes: Axes, at: float, deltas: pd.Series, row: pd.Series, upright: bool = True) -> None:
    """The differences of a row: every seed a dot, beside them the mean with its interval, in the look of its verdict.

    Args:
        axes: where.
        at: on the axis of the rows.
        deltas: of the seed pairs, in nats per token.
        row: the row of the item's table.
        upright: True where differences are on the y axis.
    """
    look = VERDICTS[verdict(row)]
    side = 0.09 if upright else -0.16
    dots = ([at - side] * len(deltas), deltas) if upright else (deltas, [at + side] * len(deltas))
    axes.plot(*dots, ".", color=SEEDS, markersize=3)
    interval = paired_interval(deltas)
    if interval.exists:
        half = interval.high - interval.mean
        place = (at + side, interval.mean) if upright else (interval.mean, at - side * 0.75)
        error = (half, None) if upright else (None, half)
        face = "white" if look is VERDICTS["not resolved"] else look.colour
        axes.errorbar(*place, error[0], error[1], fmt=look.marker, color=look.colour, markerfacecolor=face, capsize=2.5)


def judged_legend(figure: Figure, rows: pd.DataFrame, columns: int) -> None:
    """The legend of `judged`, with the verdicts that there are."""
    seen = {verdict(row) for _, row in rows.iterrows() if row["pairs"] > 1}
    means = [
        Line2D([], [], color=look.colour, marker=look.marker, label=name,
               markerfacecolor="white" if name == "not resolved" else look.colour)
        for name, look in VERDICTS.items()
        if name in seen
    ]  # fmt: skip
    end = " " if columns > 2 else "\n"
    title = f"mean with its 95 % t-interval over seeds,{end}and what the test says (Holm):"
    figure.legend(
        handles=[*means, one_seed()],
        loc="outside lower center",
        ncols=columns,
        title=title if means else None,
        title_fontsize=7,
    )


def series_handles(series: Mapping[str, Look]) -> list[Line2D]:
    """The legend of patterns, those that look all the same told once."""
    told = [(name if n < SHOWN else "the other patterns", look) for n, (name, look) in enumerate(series.items())]
    return pattern_handles(dict(told))


def one_seed() -> Line2D:
    """The legend of a seed's dot."""
    return Line2D([], [], color=SEEDS, marker=".", linestyle="none", label="one seed")
