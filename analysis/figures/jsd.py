"""How much the heads of each layer differ, pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.panels import filled, tell_left_out
from analysis.figures.shown import shown_runs
from analysis.figures.style import HEATMAP, PAGE, ROLES, SHOWN, styled
from analysis.sweep_data import SweepData
from sla_ablate.errors import InputError
from sla_ablate.text import escape


@styled
def jsd(data: SweepData) -> Figure:
    """Which heads of a layer attend alike, and do skip heads stand apart from own heads or repeat each other?

    Jensen-Shannon divergence of each pair of heads on the fixed scale from 0 to ln 2, own heads before skip heads with
    a line between; above, the heads' normalised entropy, as diffuse heads look alike. Head indices mean nothing across
    seeds, so a row of panels is one run.
    """
    pairs, entropy = data.of_pairs("pairwise_jsd"), data.of_heads("normalised_entropy")
    n_layer = int(entropy["layer"].max()) + 1
    columns = min(n_layer, 6 if n_layer <= 12 else 8)
    rows = -(-n_layer // columns)
    most = max(2, SHOWN // rows)
    measured = set(pairs["run"])
    runs = [record for record in shown_runs(data, most) if record["run_id"] in measured]
    if not runs:
        raise InputError(f"none of the chosen runs was analyzed; run: sla-ablate analyze {data.folder}")
    height = rows * ((PAGE - 1.2) / columns * 1.3 + 0.5) + 0.4
    figure = Figure(figsize=(PAGE, len(runs) * height), layout="constrained")
    parts = figure.subfigures(len(runs), 1, squeeze=False)[:, 0]
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
        part.suptitle(escape.figure(f"{record['pattern']['label']}, seed {record['seed']}"))
        bar = part.colorbar(mesh, ax=grid[1::2].ravel().tolist(), ticks=[0, 0.2, 0.4, math.log(2)], label="JSD (nats)")
        bar.ax.set_yticklabels(["0", "0.2", "0.4", "ln 2"])
    tell_left_out(figure, data, most)
    return figure


def _layer(above: Axes, below: Axes, pairs: pd.DataFrame, entropy: pd.DataFrame) -> object:
    heads = entropy.sort_values(["role", "head"])  # own before skip
    order = [int(head) for head in heads["head"]]
    square = pairs.pivot(index="head", columns="other_head", values="value").reindex(index=order, columns=order)
    matrix = square.fillna(0).to_numpy(float)
    edges = np.arange(len(order) + 1) - 0.5
    mesh = below.pcolormesh(edges, edges, matrix, cmap=HEATMAP, vmin=0, vmax=math.log(2))
    below.set_ylim(edges[-1], edges[0])
    below.spines[:].set_visible(False)
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
    below.set_yticks([])  # the same heads as below
    return mesh
