"""How much the heads of each layer differ, pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from analysis.figures.panels import filled, role_patches, tell_left_out
from analysis.figures.shown import shown_runs
from analysis.figures.style import HEATMAP, PAGE, ROLES, SHOWN, canvas, styled
from analysis.sweep_data import SweepData
from sla_ablate.errors import InputError
from sla_ablate.text import escape

_TALLEST = 9.4
"""Inches of a page that there are for rows of panels."""
_BAR = 0.7
"""Inches for the bar of colours and its label."""
_TICKS = [0, 0.02, 0.1, 0.3, math.log(2)]


@styled
def jsd(data: SweepData) -> Figure:
    """Which heads of a layer attend alike, and do skip heads stand apart from own heads or repeat each other?

    Jensen-Shannon divergence of each pair of heads on the fixed scale from 0 to ln 2, coloured by its square root, own
    heads before skip heads with a line between; above, the heads' normalised entropy, as diffuse heads look alike.
    Head indices mean nothing across seeds, so a row of panels is one run.
    """
    pairs, entropy = data.of_pairs("pairwise_jsd"), data.of_heads("normalised_entropy")
    n_layer = int(entropy["layer"].max()) + 1
    columns = min(n_layer, 6 if n_layer <= 12 else 8)
    rows = -(-n_layer // columns)
    height = rows * ((PAGE - 1.2) / columns * 1.3 + 0.5) + 0.4
    most = max(1, min(len(data.chosen) or SHOWN, int(_TALLEST / height)))
    measured = set(pairs["run"])
    runs = [record for record in shown_runs(data, most) if record["run_id"] in measured][:most]
    if not runs:
        raise InputError(f"none of the chosen runs was analyzed; run: sla-ablate analyze {data.folder}")
    figure = canvas(PAGE, len(runs) * height + 0.3)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[PAGE - _BAR, _BAR])[0]
    parts = left.subfigures(len(runs), 1, squeeze=False)[:, 0]
    for part, record in zip(parts, runs, strict=True):
        grid = part.subplots(2 * rows, columns, squeeze=False, height_ratios=[1, 3] * rows)
        panels = [grid[2 * row : 2 * row + 2, column] for row in range(rows) for column in range(columns)]
        for spare in np.ravel(panels[n_layer:]):
            spare.set_axis_off()
        for layer, (above, below) in enumerate(panels[:n_layer]):
            here = [t[(t["run"] == record["run_id"]) & (t["layer"] == layer)] for t in (pairs, entropy)]
            mesh = _layer(above, below, *here)
            above.set_title(f"layer {layer}")
            if layer >= n_layer - columns:
                below.set_xlabel("head")
            if layer % columns:
                above.set_yticklabels([])
            else:
                above.set_ylabel("entropy\n/ ln(keys)")
                below.set_ylabel("head")
                below.set_yticks(below.get_xticks(), [label.get_text() for label in below.get_xticklabels()])
        part.suptitle(escape.figure(f"{record['pattern']['label']}, seed {record['seed']}"))
    place, spare = right.subplots(2, height_ratios=[1, max(1e-3, len(runs) * height / 2 - 1)])
    spare.set_axis_off()
    bar = figure.colorbar(mesh, cax=place, ticks=_TICKS, label="JSD (nats)")
    bar.ax.set_yticklabels([*map(str, _TICKS[:-1]), "ln 2"])
    figure.legend(handles=role_patches(), loc="outside lower center", ncols=2)
    tell_left_out(figure, data, most)
    return figure


def _layer(above: Axes, below: Axes, pairs: pd.DataFrame, entropy: pd.DataFrame) -> ScalarMappable:
    heads = entropy.sort_values(["role", "head"])  # own before skip
    order = [int(head) for head in heads["head"]]
    square = pairs.pivot(index="head", columns="other_head", values="value").reindex(index=order, columns=order)
    matrix = square.fillna(0).to_numpy(float)
    edges = np.arange(len(order) + 1) - 0.5
    mesh = below.pcolormesh(edges, edges, matrix, cmap=HEATMAP, norm=PowerNorm(0.5, 0, math.log(2)))
    below.set_ylim(edges[-1], edges[0])
    below.spines[:].set(visible=True, color=ROLES["own"].colour)
    n_own = int((heads["role"] == "own").sum())
    if 0 < n_own < len(order):
        for line in (below.axhline, below.axvline):
            line(n_own - 0.5, color="white", linewidth=3)
            line(n_own - 0.5, color="black", linewidth=1)
    for role, look in ROLES.items():
        mine = np.flatnonzero(heads["role"] == role)
        above.bar(mine, heads["value"].iloc[mine], 0.8, **filled(look))
    above.set_ylim(0, 1)
    above.set_yticks([0, 1])
    above.set_xlim(edges[0], edges[-1])
    above.set_xticks([])
    step = -(-len(order) // 6)
    below.set_xticks(range(0, len(order), step), [str(head) for head in order[::step]])
    below.set_yticks([])  # the same heads as below, told once a row
    return mesh
