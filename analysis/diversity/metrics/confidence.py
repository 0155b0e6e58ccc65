"""How decidedly a head looks."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from analysis.diversity.maps import Tile
from analysis.diversity.metric import TileMetric


class Confidence(TileMetric):
    """⟨max_j p_j⟩ (Voita et al. 2019, arXiv 1905.09418)."""

    shapes: ClassVar = {"confidence": "LH"}

    def sums(self, tile: Tile) -> dict[str, Tensor]:
        """Known once a block."""
        return {"confidence": tile.block.confidence.sum(-1)} if tile.is_first else {}
