"""How widely a head looks."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from analysis.diversity.maps import TINY, Tile
from analysis.diversity.metric import TileMetric


class Entropy(TileMetric):
    """⟨H(p)⟩ in nats, and the same over its greatest value ln n of a row that sees n keys (0 where n is 1)."""

    shapes: ClassVar = {"entropy": "LH", "normalised_entropy": "LH"}

    def sums(self, tile: Tile) -> dict[str, Tensor]:
        """The entropy of each head."""
        greatest = (tile.block.rows + 1).double().log().clamp(min=TINY)
        return {"entropy": tile.entropy.sum(-1), "normalised_entropy": tile.entropy @ (1 / greatest)}
