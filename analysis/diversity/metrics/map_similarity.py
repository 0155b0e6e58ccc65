"""How alike the maps of the same head are in two layers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from analysis.diversity.maps import Block
from analysis.diversity.metric import Pass, PassMetric, Setting

COLUMNS = 64
"""Columns walked at one time: a tile holds the maps of all layers."""


class MapSimilarity(PassMetric):
    """Cosine of the same column of two layers' maps, averaged (DeepViT, Zhou et al. 2021, arXiv 2103.11886).

    Of the same head of both layers. Over rows that see at least n_min keys and the columns that at least n_min of
    those rows see: the last columns have few entries, and the very last one is alike in all layers.
    """

    shapes: ClassVar = {"map_similarity": "LLH"}
    cosine: Tensor
    columns: Tensor

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.add_sum("cosine", self.n_layer, self.n_layer, self.n_head)
        self.add_sum("columns", dtype=torch.int64)

    def update(self, run: Pass) -> None:
        """Add one sequence."""
        n_min, T = self.setting.n_min, run.maps[0].n_tokens
        columns = T - n_min + 1
        if columns < n_min:
            return
        self.columns += columns
        layers = [maps.blocks(n_min) for maps in run.maps]
        for start in range(0, columns, COLUMNS):
            self.cosine.add_(_cosines(layers, start, min(start + COLUMNS, columns)))

    def compute(self) -> dict[str, Tensor]:
        """`map_similarity` [L, L, H]."""
        return {"map_similarity": self.cosine / self.columns}


def _cosines(layers: list[list[Block]], start: int, stop: int) -> Tensor:
    """Cosines [L, L, H] summed over columns start:stop, of blocks that cover all rows."""
    H = len(layers[0][0].q)
    dot = layers[0][0].q.new_zeros(H, stop - start, len(layers), len(layers), dtype=torch.float64)
    for blocks in zip(*layers, strict=True):
        seen = min(stop, blocks[0].seen)
        if seen > start:
            p = torch.stack([block.tile(slice(start, seen)).p for block in blocks]).double()  # [L, H, R, K]
            columns = p.permute(1, 3, 0, 2)  # [H, K, L, R]
            dot[:, : seen - start] += columns @ columns.transpose(2, 3)
    norm = dot.diagonal(dim1=2, dim2=3).sqrt()
    return (dot / (norm[..., :, None] * norm[..., None, :])).sum(1).permute(1, 2, 0)
