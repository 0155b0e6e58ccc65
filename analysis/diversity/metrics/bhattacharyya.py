"""How much the maps of two heads overlap, and how many different heads a layer has."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from analysis.diversity.maps import Tile
from analysis.diversity.metric import TileMetric


class Bhattacharyya(TileMetric):
    """⟨Σ_j √(p_j q_j)⟩ of each pair of heads, and the effective number of heads.

    The latter is exp(-Σ λ ln λ), λ the eigenvalues of the coefficients' matrix over H (Vendi score, Friedman &
    Dieng 2023, arXiv 2210.02410).
    """

    shapes: ClassVar = {"bhattacharyya": "LHH"}

    def sums(self, tile: Tile) -> dict[str, Tensor]:
        """One product of matrices [H, R·K]."""
        root = tile.root.flatten(1)
        return {"bhattacharyya": root @ root.T}

    def results(self, sums: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """The mean matrix and its spectrum's entropy."""
        mean = super().results(sums, rows)["bhattacharyya"]
        measured = rows > 0
        eigenvalues = torch.linalg.eigvalsh(mean.where(measured[..., None, None], 0) / self.n_head)
        effective = torch.special.entr(eigenvalues.clamp(min=0)).sum(-1).exp()
        return {"bhattacharyya": mean, "effective_heads": effective.where(measured, torch.nan)}
