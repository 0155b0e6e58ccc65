"""Loss by position in the context."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from analysis.comparison import paired_deltas
from analysis.figures.panels import paired_by, pattern_handles, seeds_and_mean, tell_left_out
from analysis.figures.shown import shown_patterns
from analysis.figures.style import COLUMN, canvas, styled
from analysis.sweep_data import SweepData


@styled
def position(data: SweepData) -> Figure:
    """Does a pattern use its context as well as the baseline: is a difference of loss at early or at late tokens?

    Above, loss by position, in buckets from one tick to the next: thin lines are seeds, thick ones means. Below,
    seed-paired differences to the baseline, every seed and the mean with its 95 % t-interval.
    """
    looks = shown_patterns(data)
    table = data.by_position("nll")
    buckets = sorted(table["position"].unique())
    table = table.assign(bucket=table["position"].map(buckets.index))
    figure = canvas(COLUMN, 3.6)
    above, below = figure.subplots(2, sharex=True)
    for pattern, look in looks.items():
        seeds_and_mean(above, table[table["pattern"] == pattern], "bucket", look)
    above.set_ylabel("loss (nats/token)")
    paired_by(below, paired_deltas(table, "bucket"), "bucket", looks)
    below.set_ylabel("Δ to baseline\n(nats/token)")
    below.set_xticks(np.arange(len(buckets)), [str(edge) for edge in buckets])
    below.set_xlabel("position of the bucket's first token (tokens)")
    figure.legend(handles=pattern_handles(looks), loc="outside lower center")
    tell_left_out(figure, data)
    return figure
