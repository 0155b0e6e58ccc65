"""Previous-token score: does a head look at the token before?"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from analysis.diversity.maps import Tile
from analysis.diversity.metric import TileMetric


class PreviousToken(TileMetric):
    """⟨A[i, i-1]⟩ (Olsson et al. 2022, arXiv 2209.11895), over rows that have a token before."""

    shapes: ClassVar = {"previous_token": "LH"}

    def sums(self, tile: Tile) -> dict[str, Tensor]:
        """One product a row."""
        if not tile.is_first:
            return {}
        rows = tile.block.rows
        return {"previous_token": tile.block.at((rows - 1).clamp(min=0))[:, rows > 0].sum(-1)}

    def count(self, tile: Tile) -> int:
        """Row 0 has no token before."""
        return int((tile.block.rows > 0).sum())
