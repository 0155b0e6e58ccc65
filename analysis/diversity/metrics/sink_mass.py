"""How much a head rests on the first token."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from analysis.diversity.maps import Tile
from analysis.diversity.metric import TileMetric


class SinkMass(TileMetric):
    """⟨p_0⟩ (Gu et al. 2025, arXiv 2410.10781; Xiao et al. 2024, arXiv 2309.17453)."""

    shapes: ClassVar = {"sink_mass": "LH"}

    def sums(self, tile: Tile) -> dict[str, Tensor]:
        """Column 0 is in the first tile."""
        return {"sink_mass": tile.p[..., 0].sum(-1)} if tile.is_first else {}
