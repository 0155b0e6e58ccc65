"""Parts that several figures draw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import CARETDOWNBASE, CARETUPBASE
from matplotlib.patches import Patch

from analysis.figures.shown import shown_patterns
from analysis.figures.style import PAGE, ROLES, SHOWN, Layout, Look, canvas, layer_axis, wrap
from analysis.statistics import paired_interval
from analysis.sweep_data import SweepData


def seeds_and_mean(axes: Axes, table: pd.DataFrame, x: str, look: Look) -> None:
    """A thin line for each seed of one pattern and a thick one, with markers, for their mean."""
    wide = table.pivot(index=x, columns="seed", values="value").astype(float)
    axes.plot(wide.index, wide, color=look.colour, linestyle=look.line, linewidth=0.5, alpha=0.7)
    axes.plot(wide.index, wide.mean(axis=1), color=look.colour, marker=look.marker, linestyle=look.line)


def paired_by(axes: Axes, deltas: pd.DataFrame, x: str, looks: Mapping[str, Look]) -> None:
    """Seed-paired differences at each `x`: every seed a dot, beside them the mean with its 95 % t-interval.

    Args:
        axes: where.
        deltas: as of `paired_deltas`.
        x: its column of whole numbers.
        looks: of the patterns, side by side in this order.
    """
    axes.axhline(0, color="black", linewidth=0.6, zorder=0)
    patterns = [pattern for pattern in looks if pattern in set(deltas["pattern"])]
    step = 0.7 / max(1, len(patterns))
    for i, pattern in enumerate(patterns):
        look = looks[pattern]
        mine = deltas[deltas["pattern"] == pattern]
        centre = (i - (len(patterns) - 1) / 2) * step
        axes.plot(mine[x].astype(float) + centre - step / 5, mine["delta"], ".", color=look.colour, markersize=2.5)
        with_mean(axes, mine, x, "delta", centre + step / 5, look)


def with_mean(axes: Axes, table: pd.DataFrame, x: str, value: str, shift: float, look: Look, bar: bool = False) -> None:
    """The mean of `value` over seeds at each `x`, a marker or a bar, with its 95 % t-interval where there is one."""
    intervals = {at: paired_interval(group) for at, group in table.groupby(x)[value]}
    at = np.array(list(intervals), dtype=float) + shift
    means = [interval.mean for interval in intervals.values()]
    half = [interval.high - interval.mean for interval in intervals.values()]
    colour = "black" if bar else look.colour
    marker = "none" if bar else look.marker
    axes.errorbar(at, means, half, fmt=marker, color=colour, markersize=2.8, elinewidth=0.7, capsize=1.2, zorder=3)


def cut_intervals(panels: Iterable[Axes], low: float, high: float) -> None:
    """Limit the y axis that panels share to what is drawn from `low` to `high`; arrows mark intervals that go on.

    Few seeds can have intervals beside which nothing else is seen.
    """
    for axes in panels:
        axes.set_ylim(low, high)
        for container in axes.containers:
            if not isinstance(container, ErrorbarContainer):
                continue
            whole = [ends for part in container.lines[2] for ends in part.get_segments() if len(ends)]
            for (x, bottom), (_, top) in whole:
                for end, beyond, marker in ((high, top > high, CARETUPBASE), (low, bottom < low, CARETDOWNBASE)):
                    if beyond:
                        axes.plot(x, end, marker=marker, color="black", markersize=3, clip_on=False, linestyle="none")


def heads_by_layer(data: SweepData, metric: str, label: str) -> tuple[Figure, list[Axes]]:
    """A panel for each pattern with a marker for each head of every seed: where a layer has both, own heads stand
    left of its tick and skip heads right of it."""
    patterns = shown_patterns(data)
    table = data.of_heads(metric)
    n_layer = table["layer"].max() + 1
    figure, grid = page(1, len(patterns), 2.3)
    for axes, pattern in zip(grid[0], patterns, strict=True):
        mine = table[table["pattern"] == pattern]
        seeds = sorted(mine["seed"].unique())
        has_both = mine.groupby("layer")["role"].nunique() > 1
        for (seed, role), heads in mine.groupby(["seed", "role"]):
            layers = heads["layer"].astype(float)
            beside = heads["layer"].map(has_both) * (-0.2 if role == "own" else 0.2)
            shift = beside + 0.24 * (seeds.index(seed) - (len(seeds) - 1) / 2) / len(seeds)
            role_dots(axes, layers + shift, heads["value"], str(role), 3.2 if n_layer <= 8 else 2)
        axes.set_title(wrap(pattern))
        layer_axis(axes)
    grid[0, 0].set_ylabel(label)
    figure.legend(handles=role_handles("one head of one seed"), loc="outside lower center", ncols=2)
    tell_left_out(figure, data)
    return figure, list(grid[0])


def role_dots(axes: Axes, x: Any, y: Any, role: str, size: float = 3.2) -> None:
    """Markers of a role."""
    look = ROLES[role]
    axes.plot(x, y, look.marker, color=look.colour, markeredgecolor="black", markeredgewidth=0.3, markersize=size)


def filled(look: Look) -> dict[str, Any]:
    """How a bar is filled; the hatch is white, on an outline of no width."""
    return {"facecolor": look.colour, "hatch": look.hatch, "edgecolor": "white", "linewidth": 0}


def role_handles(what: str, face: str | None = None) -> list[Line2D]:
    """The legend of `role_dots`, or of markers that are filled with something else than their role's colour."""
    return [
        Line2D(
            [], [], color=face or look.colour, marker=look.marker, linestyle="none", markeredgecolor="black",
            markeredgewidth=0.3, label=f"{role}: {what}",
        )
        for role, look in ROLES.items()
    ]  # fmt: skip


def role_patches() -> list[Artist]:
    """The legend of bars."""
    return [Patch(label=f"{role} heads", **filled(look)) for role, look in ROLES.items()]


def pattern_handles(looks: Mapping[str, Look]) -> list[Line2D]:
    """The legend of patterns."""
    return [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle=look.line, label=wrap(pattern, 45))
        for pattern, look in looks.items()
    ]


def page(
    rows: int, columns: int, height: float, width: float = PAGE, layout: Layout = "constrained", **options: Any
) -> tuple[Figure, Any]:
    """A figure, of a page's width if nothing else is said, and its axes [rows, columns], sharing those of rows and
    columns."""
    figure = canvas(width, height, layout)
    grid = figure.subplots(rows, columns, squeeze=False, **{"sharex": "col", "sharey": "row", **options})
    return figure, grid


def tell_left_out(figure: Figure, data: SweepData, most: int = SHOWN) -> None:
    """Say above the figure that it shows not all patterns, unless they were chosen."""
    if data.run is None and not data.chosen and len(data.ranked) > most:
        figure.suptitle(f"{most} of {len(data.ranked)} patterns, the first by name; --patterns chooses others")
