"""How much the loss depends on own and on skip heads."""

from __future__ import annotations

from matplotlib.figure import Figure

from analysis.figures.panels import cut_intervals, filled, page, role_patches, tell_left_out, with_mean
from analysis.figures.shown import shown_patterns
from analysis.figures.style import ROLES, layer_axis, styled, wrap
from analysis.sweep_data import SweepData

_WIDTH = 0.38


@styled
def importance(data: SweepData) -> Figure:
    """Does the model use its skip heads as much as its own heads, and in which layers?

    Mean over a layer's heads of each role: above, importance |oᵀ ∂L/∂o| (Michel et al. 2019, arXiv 1905.10650); below,
    the loss added by removing one head. Bars are means over seeds with 95 % t-intervals, dots are seeds; an arrow marks
    an interval that goes on beyond the axis.
    """
    patterns = list(shown_patterns(data))
    rows = {
        "importance\n(nats/token)": data.of_heads("importance"),
        "Δ loss without\nthe head (nats/token)": data.of_heads("knock_out"),
    }
    figure, grid = page(2, len(patterns), 4)
    for (label, table), panels in zip(rows.items(), grid, strict=True):
        means = table.groupby(["pattern", "seed", "role", "layer"])["value"].mean().reset_index()
        for pattern, axes in zip(patterns, panels, strict=True):
            for shift, (role, look) in zip((-_WIDTH / 2, _WIDTH / 2), ROLES.items(), strict=True):
                mine = means[(means["pattern"] == pattern) & (means["role"] == role)]
                bars = mine.groupby("layer")["value"].mean()
                at = bars.index.astype(float) + shift
                axes.bar(at, bars, _WIDTH, **filled(look))
                with_mean(axes, mine, "layer", "value", shift + _WIDTH / 5, look, bar=True)
                dots = mine["layer"].astype(float) + shift - _WIDTH / 5
                axes.plot(
                    dots, mine["value"], "o", color="white", markeredgecolor="black", markeredgewidth=0.5,
                    markersize=1.6,
                )  # fmt: skip
            axes.axhline(0, color="black", linewidth=0.6)
        panels[0].set_ylabel(label)
        least, most = min(0.0, means["value"].min()), max(0.0, means["value"].max())
        margin = 0.25 * (most - least)
        cut_intervals(panels, least - margin if least < 0 else 0.0, most + margin)
    for pattern, first, last in zip(patterns, grid[0], grid[-1], strict=True):
        first.set_title(wrap(pattern))
        layer_axis(last)
    figure.legend(handles=role_patches(), loc="outside lower center", ncols=2)
    tell_left_out(figure, data)
    return figure
