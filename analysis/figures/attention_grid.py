"""Every attention map of one run."""

from __future__ import annotations

from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch

from analysis.evidence import is_baseline
from analysis.figures.panels import page
from analysis.figures.shown import shown_runs
from analysis.figures.style import HEATMAP, PAGE, ROLES, styled
from analysis.sweep_data import SweepData
from sla_ablate.text import escape

SIZE = 64
"""Squares that a map is shown with, at most, in either direction."""


@styled
def attention_grid(data: SweepData) -> Figure:
    """What do the heads look at: previous tokens, the first token, all of them, or something of their own?

    The maps of one run on the first window of the validation split, layer 0 at the bottom. Skip heads, framed, show
    where they look among the keys of the layer that they read. Without a run asked for it is the lowest seed of the
    first pattern by name, or of those chosen, that is not the baseline.
    """
    from analysis.figures.attention import attention_maps, pooled

    runs = shown_runs(data, 2)
    record = next((run for run in runs if not is_baseline(run)), runs[0])
    heads = data.of_heads("normalised_entropy")
    roles = heads[heads["run"] == record["run_id"]].set_index(["layer", "head"])["role"]
    layers = attention_maps(data, record)
    n_head, n_tokens = len(layers[0].q), layers[0].n_tokens
    size = min(1, (PAGE - 1.5) / n_head - 0.08)
    height, width = len(layers) * (size + 0.08) + 0.9, n_head * (size + 0.08) + 1.5
    figure, grid = page(len(layers), n_head, height, width, "compressed", sharex="all", sharey="all")
    image: AxesImage
    for maps, row in zip(layers, grid[::-1], strict=True):
        for head, (axes, matrix) in enumerate(zip(row, pooled(maps, SIZE), strict=True)):
            image = axes.imshow(
                matrix, cmap=HEATMAP, norm=PowerNorm(0.5, 0, 1), extent=(0, n_tokens, n_tokens, 0), interpolation="none"
            )
            look = ROLES[roles[maps.layer, head]]
            is_skip = bool(look.hatch)
            axes.spines[:].set_visible(True)
            axes.spines[:].set(color=look.colour, linewidth=1.5 if is_skip else 0.8)
            axes.set_xticks([0, n_tokens])
            axes.set_yticks([0, n_tokens])
            axes.tick_params(length=2, labelleft=False, labelbottom=False)
        row[0].set_ylabel(str(maps.layer) if maps.layer else "layer 0")
    for head, axes in enumerate(grid[0]):
        axes.set_title(str(head) if head else "head 0")
    grid[-1, n_head // 2].set_xlabel("key (token)")
    grid[-1, 0].tick_params(labelleft=True, labelbottom=True)
    for label, side in zip(grid[-1, 0].get_xticklabels(), ("left", "right"), strict=True):
        label.set_horizontalalignment(side)  # in the middle of its tick it would push the panels apart
    figure.supylabel("query (token)")
    stride = -(-n_tokens // SIZE)
    label = "attention" if stride == 1 else f"attention (greatest of {stride} × {stride})"
    figure.colorbar(image, ax=grid, label=label, shrink=0.4, ticks=[0, 0.01, 0.1, 0.25, 0.5, 1])
    figure.suptitle(escape.figure(f"{record['pattern']['label']}, seed {record['seed']}"))
    frames = [
        Patch(facecolor="white", edgecolor=look.colour, linewidth=2 if look.hatch else 0.8, label=f"{role} head")
        for role, look in ROLES.items()
    ]
    figure.legend(handles=frames, loc="outside lower center", ncols=2)
    return figure
