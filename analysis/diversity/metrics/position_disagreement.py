"""Disagreement on attended positions."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from analysis.diversity.maps import Tile
from analysis.diversity.metric import TileMetric


class PositionDisagreement(TileMetric):
    """-(1/H²) Σ_ij ⟨A^i · A^j⟩, the diagonal included, of [-1, 0] (Li et al. 2018, arXiv 1810.10183)."""

    shapes: ClassVar = {"position_disagreement": "L"}

    def sums(self, tile: Tile) -> dict[str, Tensor]:
        """The double sum over heads is the square of the mean map."""
        return {"position_disagreement": -tile.mean.square().sum()}
