"""The figure of an item: one picture that answers its question, in the kind that `item.yaml` asks for."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.comparison import BASELINE
from analysis.figures.panels import pattern_handles
from analysis.figures.style import COLUMN, PAGE, Look, looks, styled, wrap
from analysis.items.classes import class_table
from analysis.items.columns import key_title
from analysis.items.table import ItemTable
from analysis.statistics import paired_interval
from sla_ablate.errors import InputError
from sla_ablate.text import escape

_DELTA = "Δ nats/token to baseline"
_DIVERGING = "RdBu_r"
_BEST, _WORST = Look("#0072B2", "s"), Look("#D55E00", "^")


@styled
def item_figure(table: ItemTable) -> Figure:
    """Draw an item's figure.

    Raises:
        InputError: no pattern has a pair of done runs.
    """
    if table.deltas.empty:
        raise InputError(f"{table.item.name} at {table.scale} has no pattern with a pair of runs")
    return {"line": _line, "grid": _grid, "rows": _rows, "heads": _heads}[table.item.figure["kind"]](table)


def _line(table: ItemTable) -> Figure:
    """Δ against a key: every seed a dot, the mean with its interval; the losses beside it if the baseline has the key
    too."""
    x = table.item.figure["x"]
    by_setting = not x.startswith("pattern.")
    figure = Figure(figsize=(PAGE if by_setting else COLUMN, 2.7), layout="constrained")
    panels = figure.subplots(1, 2 if by_setting else 1, squeeze=False)[0]
    rows, deltas = table.rows, table.deltas
    ranked = list(dict.fromkeys(rows.sort_values("nats_per_token_mean")["pattern"]))
    series = looks(ranked) if by_setting else dict.fromkeys(ranked, Look("#0072B2", "s"))
    at = {value: n for n, value in enumerate(sorted(deltas[x].unique()))}
    width = 0.6 / max(1, len(series) - 1)
    axes = panels[-1]
    axes.axhline(0, color="black", linewidth=0.8, zorder=0)
    for i, (pattern, look) in enumerate(series.items()):
        mine = deltas[deltas["pattern"] == pattern]
        shift = (i - len(series) / 2) * width if by_setting else 0.0
        for value, group in mine.groupby(x):
            _seeds_and_interval(axes, at[value] + shift, group["delta"], look)
    axes.set_xticks(range(len(at)), [_tick(value) for value in at])
    axes.set_xlabel(key_title(x))
    axes.set_ylabel(f"{_DELTA}\n(lower is better)")
    if by_setting:
        _losses(panels[0], rows, x, at, series)
        figure.legend(handles=pattern_handles(series), loc="outside lower center", ncols=2)
    else:
        figure.legend(handles=_handles(), loc="outside lower center", ncols=2)
    return figure


def _losses(axes: Axes, rows: pd.DataFrame, x: str, at: dict[object, int], series: dict[str, Look]) -> None:
    for pattern, look in series.items():
        mine = rows[rows["pattern"] == pattern].sort_values(x)
        where = [at.get(value) for value in mine[x]]
        shown = [n is not None for n in where]
        axes.errorbar(
            [n for n in where if n is not None],
            mine["nats_per_token_mean"][shown],
            mine["nats_per_token_std"][shown].fillna(0),
            color=look.colour,
            marker=look.marker,
            linestyle=look.line,
            capsize=1.5,
            elinewidth=0.7,
        )
    axes.set_xticks(range(len(at)), [_tick(value) for value in at])
    axes.set_xlabel(key_title(x))
    axes.set_ylabel("nats/token\n(mean ± standard deviation)")


def _grid(table: ItemTable) -> Figure:
    """A heat map of Δ over two keys; in each cell the mean and its interval, bold where it is resolved after Holm."""
    x, y = table.item.figure["x"], table.item.figure["y"]
    rows = table.rows[(table.rows["pattern"] != BASELINE) & (table.rows["pairs"] > 0)]
    wide = rows.pivot_table(index=y, columns=x, values="delta")
    figure = Figure(figsize=(PAGE, 0.9 + 0.42 * len(wide)), layout="constrained")
    axes = figure.add_subplot()
    extent = max(float(wide.abs().max().max()), 1e-6)
    image = axes.imshow(wide, cmap=_DIVERGING, norm=TwoSlopeNorm(0, -extent, extent), aspect="auto", origin="lower")
    for _, row in rows.iterrows():
        place = (list(wide.columns).index(row[x]), list(wide.index).index(row[y]))
        dark = abs(row["delta"]) > 0.6 * extent
        text = f"{row['delta']:+.3f}"
        if row["pairs"] > 1:
            text += f"\n[{row['delta_low']:+.3f}, {row['delta_high']:+.3f}]"
        weight = "bold" if row["p_holm"] < 0.05 else "normal"
        axes.annotate(
            text, place, ha="center", va="center", fontsize=5.5, fontweight=weight, color="white" if dark else "black"
        )
    axes.set_xticks(range(wide.shape[1]), [_tick(value) for value in wide.columns])
    axes.set_yticks(range(wide.shape[0]), [_tick(value) for value in wide.index])
    axes.set_xlabel(key_title(x))
    axes.set_ylabel(key_title(y))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label=_DELTA, shrink=0.9)
    return figure


def _rows(table: ItemTable) -> Figure:
    """Every row's Δ, the lowest above."""
    deltas, rows = table.deltas, table.rows
    rows = rows[(rows["pattern"] != BASELINE) & (rows["pairs"] > 0)].sort_values("delta")
    figure = Figure(figsize=(PAGE, 0.9 + 0.3 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color="black", linewidth=0.8, zorder=0)
    axes.annotate(BASELINE, (0, 1), xycoords=axes.get_xaxis_transform(), ha="center", va="bottom")
    names = []
    for n, (_, row) in enumerate(rows.iterrows()):
        mine = deltas[(deltas["pattern"] == row["pattern"]) & (deltas["setting"] == row["setting"])]["delta"]
        axes.plot(mine, [n - 0.16] * len(mine), ".", color="#777777", markersize=3)
        interval = paired_interval(mine)
        if interval.exists:
            resolved = row["p_holm"] < 0.05
            colour = "#777777" if not resolved else "#0072B2" if interval.mean < 0 else "#D55E00"
            axes.errorbar(
                interval.mean, n + 0.12, xerr=interval.high - interval.mean, fmt="s", color=colour, capsize=2.5
            )
        keys = [f"{key_title(key).lower()} {_tick(row[key])}" for key in table.item.rows if "pattern." not in key]
        names.append(wrap(", ".join([row["pattern"], *keys]), 42))
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(f"{_DELTA} (lower is better)")
    figure.legend(handles=[*_handles(), *_verdicts()], loc="outside lower center", ncols=5)
    return figure


def _heads(table: ItemTable) -> Figure:
    """Does a change of the heads' diversity go with a change of the loss? A dot a seed pair, a marker a pattern."""
    pairs = table.head_deltas
    if pairs.empty:
        raise InputError(f"{table.item.name} at {table.scale} has no pair of runs whose heads were measured")
    order = list(dict.fromkeys(table.rows.sort_values("nats_per_token_mean")["pattern"]))
    figure = Figure(figsize=(PAGE, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0, color="black", linewidth=0.6, zorder=0)
    axes.axvline(0, color="black", linewidth=0.6, zorder=0)
    handles = []
    palette = ("#D55E00", "#009E73", "#CC79A7", "#0072B2", "#E69F00", "#56B4E9", "#000000", "#777777")
    markers = "s^DovP*X<>"
    for n, pattern in enumerate(pattern for pattern in order if pattern in set(pairs["pattern"])):
        mine = pairs[pairs["pattern"] == pattern]
        look = {"color": palette[n % len(palette)], "marker": markers[n % len(markers)], "linestyle": "none"}
        axes.plot(mine["heads"], mine["delta"], markersize=2.5, alpha=0.6, **look)
        axes.plot(mine["heads"].mean(), mine["delta"].mean(), markersize=7, markeredgecolor="black", **look)
        handles.append(Line2D([], [], markersize=5, label=escape.figure(pattern), **look))
    axes.set_xlabel("Δ generalised JSD of the heads, mean over layers (nats; right: more diverse)")
    axes.set_ylabel(f"{_DELTA}\n(lower is better)")
    figure.legend(handles=handles, loc="outside right center")
    return figure


def _seeds_and_interval(axes: Axes, x: float, deltas: pd.Series, look: Look) -> None:
    axes.plot([x - 0.08] * len(deltas), deltas, ".", color=look.colour, markersize=3, alpha=0.6)
    interval = paired_interval(deltas)
    if interval.exists:
        half = interval.high - interval.mean
        axes.errorbar(x + 0.08, interval.mean, half, fmt=look.marker, color=look.colour, capsize=2, elinewidth=0.9)


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], color="black", marker=".", linestyle="none", label="one seed"),
        Line2D([], [], color="black", marker="s", label="mean, 95 % t-interval"),
    ]


def _verdicts() -> list[Line2D]:
    colours = {"lower": "#0072B2", "higher": "#D55E00", "not resolved (Holm)": "#777777"}
    return [Line2D([], [], color=colour, marker="s", label=name) for name, colour in colours.items()]


def _tick(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@styled
def curves_figure(table: ItemTable) -> Figure:
    """The training loss of every run over its steps.

    Thin lines are runs, one colour a pattern; the loss of single batches, so differences smaller than their noise
    cannot be seen here.

    Raises:
        InputError: no run tells its loss while training.
    """
    curves = [(record["pattern"]["label"], record["curve"]) for record in table.records if record.get("curve")]
    if not curves:
        raise InputError(f"{table.item.name} at {table.scale} has no training curves")
    series = looks(list(dict.fromkeys(table.rows.sort_values("nats_per_token_mean")["pattern"])))
    figure = Figure(figsize=(PAGE, 3.0), layout="constrained")
    axes = figure.add_subplot()
    for label, curve in curves:
        look = series.get(label, Look("#777777", "v"))
        axes.plot(*zip(*curve, strict=True), color=look.colour, linestyle=look.line, linewidth=0.5, alpha=0.7)
    axes.set_xscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("training loss (nats/token)")
    figure.legend(handles=pattern_handles(series), loc="outside right center")
    return figure


@styled
def classes_figure(table: ItemTable) -> Figure:
    """Where the difference of loss is, for the pattern of lowest loss and the one of highest.

    Means over seed pairs with 95 % t-intervals, by how often the token occurs in the training text (tenths, 1 the
    rarest), whether it begins a word, whether its bigram was seen before in the context, and its position.

    Raises:
        InputError: no pair of runs tells its loss by class.
    """
    rows = class_table(table)
    if rows.empty:
        raise InputError(f"{table.item.name} at {table.scale} has no pair of runs with losses by class of token")
    compared = table.rows[(table.rows["pattern"] != BASELINE) & (table.rows["pairs"] > 0)].sort_values("delta")
    chosen = compared.iloc[[0, -1]].drop_duplicates(["setting", "pattern"])
    partitions = list(dict.fromkeys(rows["partition"]))
    figure = Figure(figsize=(PAGE, 2.6), layout="constrained")
    widths = [2 + rows[rows["partition"] == partition]["class"].nunique() for partition in partitions]
    grid = figure.subplots(1, len(partitions), sharey=True, width_ratios=widths)
    for axes, partition in zip(grid, partitions, strict=True):
        axes.axhline(0, color="black", linewidth=0.6, zorder=0)
        mine = rows[rows["partition"] == partition]
        names = list(dict.fromkeys(mine["class"]))
        for (_, row), look, shift in zip(chosen.iterrows(), (_BEST, _WORST), (-0.12, 0.12), strict=False):
            of_it = mine[(mine["pattern"] == row["pattern"]) & (mine["setting"] == row["setting"])]
            at = [names.index(name) + shift for name in of_it["class"]]
            half = (of_it["delta_high"] - of_it["delta"]).fillna(0)
            axes.errorbar(at, of_it["delta"], half, fmt=look.marker, color=look.colour, capsize=1.5, elinewidth=0.7)
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_xlabel(partition)
    grid[0].set_ylabel(f"{_DELTA}\n(lower is better)")
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle="none", label=escape.figure(row["pattern"]))
        for (_, row), look in zip(chosen.iterrows(), (_BEST, _WORST), strict=False)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure
