"""Generalised JSD split into its parts."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.figures.panels import filled, page, role_dots, role_handles, tell_left_out
from analysis.figures.shown import shown_patterns
from analysis.figures.style import OWN, SKIP, layer_axis, styled, wrap
from analysis.sweep_data import SweepData

_PARTS = {
    "within each role": ("generalised_jsd_within", filled(OWN)),
    "between own and skip": ("generalised_jsd_between", filled(SKIP)),
}


@styled
def generalised_jsd(data: SweepData) -> Figure:
    """How different are the heads of a layer, and is it own heads against skip heads that differ, or heads of one role?

    Above, one stacked bar for each seed; its height is the layer's generalised JSD. Below, the normalised entropy of
    the layer's own and skip heads, a marker for each seed: diffuse heads look alike.
    """
    patterns = list(shown_patterns(data))
    figure, grid = page(2, len(patterns), 3.5, height_ratios=[3, 2])
    parts = {name: data.of_layers(metric) for name, (metric, _) in _PARTS.items()}
    entropy = data.of_heads("normalised_entropy")
    for pattern, (above, below) in zip(patterns, grid.T, strict=True):
        seeds = sorted(entropy.loc[entropy["pattern"] == pattern, "seed"].unique())
        width = 0.7 / len(seeds)
        for i, seed in enumerate(seeds):
            shift = (i - (len(seeds) - 1) / 2) * width
            height = np.zeros(1)
            for name, table in parts.items():
                mine = table[(table["pattern"] == pattern) & (table["seed"] == seed)].sort_values("layer")
                value = mine["value"].to_numpy()
                above.bar(mine["layer"].astype(float) + shift, value, width * 0.9, bottom=height, **_PARTS[name][1])
                height = height + value
            heads = entropy[(entropy["pattern"] == pattern) & (entropy["seed"] == seed)]
            for role, means in heads.groupby("role"):
                mean = means.groupby("layer")["value"].mean()
                role_dots(below, mean.index.astype(float) + shift, mean, role)
        above.set_title(wrap(pattern))
        layer_axis(below)
    grid[0, 0].set_ylabel("generalised JSD (nats)")
    grid[1, 0].set_ylabel("entropy /\nln(keys seen)")
    bars = [Patch(label=name, **style) for name, (_, style) in _PARTS.items()]
    handles = [*bars, *role_handles("mean of one seed")]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    tell_left_out(figure, data)
    return figure
