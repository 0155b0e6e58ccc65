"""How far back a head looks."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from analysis.diversity.maps import Tile
from analysis.diversity.metric import TileMetric


class AttentionDistance(TileMetric):
    """⟨Σ_j p_j (i - j)⟩ in tokens (Vig & Belinkov 2019, arXiv 1906.04284).

    `attention_distance_off_sink` leaves out column 0: ⟨Σ_{j>0} p_j (i - j)⟩ / ⟨1 - p_0⟩, the mean distance of the
    attention that is not on the first token.
    """

    shapes: ClassVar = {"attention_distance": "LH", "attention_distance_off_sink": "LH", "mass_off_sink": "LH"}

    def sums(self, tile: Tile) -> dict[str, Tensor]:
        """Rows' own positions minus the positions that they look at."""
        p, rows, last = tile.p, tile.block.rows.double(), tile.keys.stop - 1
        # By way of the last key, since the difference of two long distances has their rounding errors.
        before_last = torch.arange(last - tile.keys.start, -1, -1, device=p.device, dtype=p.dtype)
        mass = p.sum(-1).double()
        distance = (mass * (rows - last) + (p @ before_last).double()).sum(-1)
        sink = p[..., 0].double() if tile.is_first else torch.zeros_like(mass)
        return {
            "attention_distance": distance,
            "attention_distance_off_sink": distance - sink @ rows,
            "mass_off_sink": (mass - sink).sum(-1),
        }

    def results(self, sums: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """The mass is no result of its own."""
        return {
            "attention_distance": sums["attention_distance"] / rows[..., None],
            "attention_distance_off_sink": sums["attention_distance_off_sink"] / sums["mass_off_sink"],
        }
