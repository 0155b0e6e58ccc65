"""All heads of all layers as points, nearer the more alike they attend."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.panels import page, role_handles, tell_left_out
from analysis.figures.shown import shown_runs
from analysis.figures.style import HEATMAP, ORDER, PAGE, ROLES, styled, wrap
from analysis.sweep_data import SweepData
from sla_ablate.errors import InputError

MOST_ROWS, LEAST_ROWS, PAIRS = 64, 16, 2_000_000
"""Query rows that the divergences are a mean over: as few as it takes to have no more than so many pairs in all."""
Points = npt.NDArray[np.float64]


@styled
def head_map(data: SweepData) -> Figure:
    """Do heads group by layer, or by role, and do a pattern's heads go where the baseline has none?

    Classical scaling of √JSD, a metric, of all heads of the runs together on the first window of the validation split:
    one map, of which each column shows a run's heads, in grey those of the others. Above coloured by layer, below by
    normalised entropy, as diffuse heads look alike. The stress tells how much of the distances two dimensions miss.
    """
    from analysis.figures.attention import attention_maps, divergences

    runs = shown_runs(data)
    entropy = data.of_heads("normalised_entropy")
    layers = [maps for record in runs for maps in attention_maps(data, record)]
    n_heads = sum(len(maps.q) for maps in layers)
    if n_heads < 2:
        raise InputError("head_map shows how heads lie to each other, and there is only one")
    rows_each = 2 * PAIRS // n_heads**2 // 2 * 2  # even, as strata are of two
    points, stress = classical_scaling(divergences(layers, min(MOST_ROWS, max(LEAST_ROWS, rows_each))))
    width = min(PAGE, 1.4 + 1.7 * len(runs))
    tall = np.ptp(points[:, 1]) / max(np.ptp(points[:, 0]), 1e-9)  # of a panel, in its widths
    lines = max(wrap(record["pattern"]["label"]).count("\n") for record in runs) + 2
    height = 2 * max(1.0, (width - 1.4) / len(runs) * tall) + 1.1 + 0.14 * lines
    figure, grid = page(2, len(runs), height, width, "compressed", sharex="all", sharey="all")
    rows = (
        ("layer", "layer", ORDER, Normalize(0, int(entropy["layer"].max()))),
        ("value", "entropy / ln(keys)", HEATMAP, Normalize(0, 1)),
    )
    for panels, (column, label, colours, norm) in zip(grid, rows, strict=True):
        for axes, record, mine in zip(panels, runs, np.split(points, len(runs)), strict=True):
            axes.plot(*points.T, ".", color="#D8D8D8", markersize=2, zorder=0)
            heads = entropy[entropy["run"] == record["run_id"]].sort_values(["layer", "head"])
            for role, look in ROLES.items():
                of = (heads["role"] == role).to_numpy()
                axes.scatter(
                    *mine[of].T, s=16, c=heads.loc[of, column].astype(float), marker=look.marker, cmap=colours,
                    norm=norm, edgecolor="black", linewidth=0.4,
                )  # fmt: skip
            axes.set_aspect("equal")
            axes.margins(0.1)
        ticks = MaxNLocator(5, integer=column == "layer")
        figure.colorbar(ScalarMappable(norm, colours), ax=panels.tolist(), label=label, ticks=ticks)
    figure.supylabel("dimension 2 (√nats)")
    for record, first, last in zip(runs, grid[0], grid[-1], strict=True):
        first.set_title(f"{wrap(record['pattern']['label'])}\nseed {record['seed']}")
        last.set_xlabel("dimension 1 (√nats)")
    figure.legend(
        handles=role_handles("one head", "white"), loc="outside lower center", ncols=2,
        title=f"stress {stress:.2f}; 0: two dimensions show all",
    )  # fmt: skip
    tell_left_out(figure, data)
    return figure


def classical_scaling(squared: npt.NDArray[np.float64]) -> tuple[Points, float]:
    """Two coordinates a point, [n, 2], from squared distances [n, n], and what they miss.

    The eigenvectors of the doubly centred matrix (Torgerson 1952), each with its greatest entry positive. The stress is
    √(Σ (d - d̂)² / Σ d²) over pairs (Kruskal 1964, stress-1): 0 for a perfect picture.
    """
    centred = squared - squared.mean(0) - squared.mean(1)[:, None] + squared.mean()
    values, vectors = np.linalg.eigh(-centred / 2)
    values, vectors = values[:-3:-1], vectors[:, :-3:-1]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), range(vectors.shape[1])])
    points = vectors * np.sqrt(values.clip(min=0))
    shown = np.linalg.norm(points[:, None] - points, axis=-1)
    true = np.sqrt(squared)
    missed, all_ = ((true - shown) ** 2).sum(), squared.sum()
    return points, float(np.sqrt(missed / all_)) if all_ else 0.0
