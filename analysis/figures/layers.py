"""Diversity over the layers, patterns against the baseline."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.comparison import paired_deltas
from analysis.figures.panels import page, paired_by, pattern_handles, seeds_and_mean, tell_left_out
from analysis.figures.shown import shown_patterns
from analysis.figures.style import layer_axis, styled
from analysis.sweep_data import SweepData


@styled
def layers(data: SweepData) -> Figure:
    """In which layers does a pattern change how different the heads are, beyond the spread of the seeds?

    Above, generalised JSD, effective number of heads and, since diffuse heads look alike, normalised entropy (mean
    over the layer's heads): thin lines are seeds, thick ones means. Below, seed-paired differences to the baseline,
    every seed and the mean with its 95 % t-interval.
    """
    looks = shown_patterns(data)
    columns = {
        ("generalised JSD", " (nats)"): data.by_layer("generalised_jsd"),
        ("effective heads", ""): data.by_layer("effective_heads"),
        ("entropy / ln(keys seen)", ""): data.by_layer("normalised_entropy"),
    }
    figure, grid = page(2, len(columns), 3.8, sharey="none")
    for ((label, unit), table), (above, below) in zip(columns.items(), grid.T, strict=True):
        for pattern, look in looks.items():
            seeds_and_mean(above, table[table["pattern"] == pattern], "layer", look)
        above.set_ylabel(label + unit)
        paired_by(below, paired_deltas(table, "layer"), "layer", looks)
        below.set_ylabel(f"Δ to baseline{unit}")
        layer_axis(below)
    figure.legend(handles=pattern_handles(looks), loc="outside lower center", ncols=2)
    tell_left_out(figure, data)
    return figure
