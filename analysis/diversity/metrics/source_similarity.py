"""Source similarity: does a skip head look where its source head looks, or elsewhere?"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from analysis.diversity.maps import Maps, entropy_terms
from analysis.diversity.metric import Pass, PassMetric, Setting
from analysis.diversity.roles import source_layers


class SourceSimilarity(PassMetric):
    """⟨Σ_j √(p_j q_j)⟩ and ⟨JSD(p, q)⟩ of skip head (l, h) and head h of its source layer; NaN for own heads.

    A head that copies its source has `source_bhattacharyya` 1 and `source_jsd` 0.
    """

    shapes: ClassVar = {"source_bhattacharyya": "LH", "source_jsd": "LH"}
    overlap: Tensor
    divergence: Tensor
    rows: Tensor

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.add_sum("overlap", self.n_layer, self.n_head)
        self.add_sum("divergence", self.n_layer, self.n_head)
        self.add_sum("rows", dtype=torch.int64)

    def update(self, run: Pass) -> None:
        """Add one sequence."""
        first, T = self.setting.n_min - 1, run.maps[0].n_tokens
        self.rows += len(range(first, T))
        sources = source_layers(self.setting.pattern)
        for layer, maps in enumerate(run.maps):
            skips = self.skip[layer].nonzero()[:, 0].tolist()
            if not skips:
                continue
            origin = [run.maps[sources[layer, h]] for h in skips]
            there = Maps(
                layer,
                torch.stack([m.q[h] for m, h in zip(origin, skips, strict=True)]),
                torch.stack([m.k[h] for m, h in zip(origin, skips, strict=True)]),
            )
            here = Maps(layer, maps.q[skips], maps.k[skips])
            for a, b in zip(here.blocks(first + 1), there.blocks(first + 1), strict=True):
                for one, other in zip(a.tiles(), b.tiles(), strict=True):
                    p, q = one.p.double(), other.p.double()
                    self.overlap[layer, skips] += (p * q).sqrt_().sum((1, 2))
                    divergence = entropy_terms((p + q) / 2) - (entropy_terms(p) + entropy_terms(q)) / 2
                    self.divergence[layer, skips] += divergence.sum(-1)

    def compute(self) -> dict[str, Tensor]:
        """Means over rows, [L, H]."""
        skip = self.skip.to(self.overlap.device)
        return {
            "source_bhattacharyya": (self.overlap / self.rows).where(skip, torch.nan),
            "source_jsd": (self.divergence / self.rows).clamp(min=0).where(skip, torch.nan),
        }
