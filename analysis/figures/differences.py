"""The loss of each pattern against the baseline's."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.comparison import BASELINE, Record, by_setting, comparison_table, seed_differences
from analysis.figures.style import COLUMN, canvas, looks, styled, wrap
from analysis.statistics import paired_interval
from analysis.sweep_data import SweepData
from sla_ablate.errors import InputError


def differences(data: SweepData) -> Figure:
    """Which patterns have a lower loss than the baseline, and do the seeds resolve it?

    Seed-paired differences, every seed a dot above its pattern's mean with its 95 % t-interval.
    """
    return paired_differences(data.records, data.chosen)


@styled
def paired_differences(records: Sequence[Record], order: Sequence[str] = ()) -> Figure:
    """Each pattern's seed-paired difference to the baseline, in nats per token, for one setting.

    Every seed is a dot above its pattern's mean, which carries a 95 % t-interval where there are two
    pairs or more. Patterns are in the order of `comparison_table`.

    Raises:
        InputError: records of several settings, or no pattern with a pair of done runs.
    """
    if len(settings := by_setting(records)) > 1:
        raise InputError(f"one figure shows one setting, got records of {len(settings)}")
    table = seed_differences(records)
    ranked = list(comparison_table(records, order)["pattern"])
    patterns = [pattern for pattern in ranked if pattern in set(table["pattern"])]
    if not patterns:
        raise InputError("no pattern has a done run paired with a done baseline run")

    look = looks(ranked, chosen=bool(order))
    figure = canvas(COLUMN, 0.9 + 0.4 * len(patterns))
    axes = figure.add_subplot()
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color="black", linewidth=0.8, zorder=0)
    axes.annotate(BASELINE, (0, 1), xycoords=axes.get_xaxis_transform(), ha="center", va="bottom")
    for y, pattern in enumerate(patterns):
        colour, marker = look[pattern].colour, look[pattern].marker
        deltas = table.loc[table["pattern"] == pattern, "delta"].to_numpy()
        axes.plot(deltas, [y - 0.16] * len(deltas), "o", color=colour, markersize=2.5, label="one seed")
        interval = paired_interval(deltas)
        if interval.exists:
            half = interval.high - interval.mean
            axes.errorbar(interval.mean, y + 0.12, xerr=half, fmt=marker, color=colour, markersize=4, capsize=2.5)
    axes.set_yticks(range(len(patterns)), [wrap(pattern) for pattern in patterns])
    axes.set_ylim(len(patterns) - 0.5, -0.5)  # the first pattern at the top
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("Δ nats/token to baseline\n(lower is better)")
    handles = [Line2D([], [], color="black", marker=".", linestyle="none", label="one seed")]
    if axes.containers:
        handles.append(Line2D([], [], color="black", marker="s", label="mean, 95 % t-interval"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure
