"""The figures of a sweep, for the column of a paper."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from analysis.statistics import paired_interval
from analysis.tables import BASELINE, Record, by_setting, comparison_table, seed_differences
from sla_ablate.errors import InputError

WIDTH = 3.4
"""Inches: one column of a two-column paper, so that 8 points stay 8 points in print."""
# Okabe and Ito's palette, distinct under every common colour blindness and in print without colour.
SEED, MEAN, ZERO = "#E69F00", "#0072B2", "#000000"


def paired_differences(records: Sequence[Record]) -> Figure:
    """Each pattern's seed-paired difference to the baseline, in nats per token, for one setting.

    Every seed is a dot above its pattern's mean, which carries a 95 % t-interval where there are two
    pairs or more. Patterns from best to worst, as in `comparison_table`.

    Raises:
        InputError: records of several settings, or no pattern with a pair of done runs.
    """
    if len(settings := by_setting(records)) > 1:
        raise InputError(f"one figure shows one setting, got records of {len(settings)}")
    differences = seed_differences(records)
    patterns = [p for p in comparison_table(records)["pattern"] if p in set(differences["pattern"])]
    if not patterns:
        raise InputError("no pattern has a done run paired with a done baseline run")

    with mpl.rc_context({"font.size": 8}):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.4 * len(patterns)), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "left", "right"]].set_visible(False)
        axes.axvline(0, color=ZERO, linewidth=0.8, zorder=0)
        axes.annotate(BASELINE, (0, 1), xycoords=axes.get_xaxis_transform(), ha="center", va="bottom")
        deltas = [differences.loc[differences["pattern"] == p, "delta"].to_numpy() for p in patterns]
        axes.plot(
            np.concatenate(deltas),
            np.repeat(np.arange(len(patterns)), [len(d) for d in deltas]) - 0.16,
            "o",
            color=SEED,
            markersize=3.5,
            alpha=0.8,
            label="one seed",
        )
        intervals = [(y, i) for y, i in enumerate(map(paired_interval, deltas)) if i.exists]
        if intervals:
            axes.errorbar(
                [i.mean for _, i in intervals],
                [y + 0.12 for y, _ in intervals],
                xerr=[i.high - i.mean for _, i in intervals],
                fmt="s",
                color=MEAN,
                markersize=4,
                capsize=2.5,
                label="mean, 95 % t-interval",
            )
        axes.set_yticks(range(len(patterns)), [_wrap(pattern) for pattern in patterns])
        axes.set_ylim(len(patterns) - 0.5, -0.5)  # the best pattern at the top
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("Δ nats/token to baseline\n(lower is better)")
        figure.legend(loc="outside lower center", ncols=2, frameon=False, handletextpad=0.4)
    return figure


def render(figure: Figure, suffix: str) -> bytes:
    """The figure as a file of type `suffix` (`svg`, `png`); equal figures give equal bytes."""
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "sla-ablate"}):
        figure.savefig(buffer, format=suffix, dpi=300, metadata={"Date": None} if suffix == "svg" else None)
    return buffer.getvalue()


def _wrap(label: str) -> str:
    """The label over lines of about 20 letters, broken after commas only: "distance 5" stays whole."""
    whole = label.replace(" ", "\N{NO-BREAK SPACE}").replace(",\N{NO-BREAK SPACE}", ", ")
    return textwrap.fill(whole, 20, break_long_words=False)
