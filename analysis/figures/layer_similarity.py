"""How alike the attention maps of two layers are."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from analysis.figures.panels import page, tell_left_out
from analysis.figures.shown import shown_patterns
from analysis.figures.style import HEATMAP, PAGE, styled, wrap
from analysis.sweep_data import SweepData


@styled
def layer_similarity(data: SweepData) -> Figure:
    """Do layers repeat each other's attention maps, and does a skip head's layer repeat the layer that it reads?

    Cosine of the same column of two layers' maps (DeepViT, arXiv 2103.11886), a mean over columns and heads; patterns
    are rows, seeds columns.
    """
    patterns = list(shown_patterns(data))
    table = data.of_pairs("map_similarity")
    table = table[table["pattern"].isin(patterns)]
    seeds = sorted(table["seed"].unique())
    size = min(1.2, 4.9 / len(seeds))
    height, width = len(patterns) * (size + 0.12) + 0.7, min(PAGE, len(seeds) * (size + 0.1) + 1.6)
    figure, grid = page(len(patterns), len(seeds), height, width, "compressed", sharey="all", sharex="all")
    for pattern, row in zip(patterns, grid, strict=True):
        for seed, axes in zip(seeds, row, strict=True):
            run = table[(table["pattern"] == pattern) & (table["seed"] == seed)]
            if run.empty:
                axes.set_axis_off()
                continue
            matrix = run.groupby(["layer", "other_layer"])["value"].mean().unstack().to_numpy(float)
            edges = np.arange(len(matrix) + 1) - 0.5
            mesh = axes.pcolormesh(edges, edges, matrix, cmap=HEATMAP, vmin=0, vmax=1)
            axes.set_aspect("equal")
            axes.spines[:].set_visible(False)
            axes.locator_params(integer=True, nbins=6)
        row[0].set_ylabel(f"{wrap(pattern)}\nlayer")
    for seed, first, last in zip(seeds, grid[0], grid[-1], strict=True):
        first.set_title(f"seed {seed}")
        last.set_xlabel("layer")
    figure.colorbar(mesh, ax=grid, label="map similarity (cosine)", shrink=0.5)
    tell_left_out(figure, data)
    return figure
