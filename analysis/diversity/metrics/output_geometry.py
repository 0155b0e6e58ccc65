"""How alike the outputs of two heads are, and in how many directions one head's outputs spread."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from analysis.diversity.metric import Pass, PassMetric, Setting


class OutputGeometry(PassMetric):
    """Linear CKA and effective rank of head outputs, both from their streamed covariance.

    CKA = ‖XᵀY‖²_F / (‖XᵀX‖_F ‖YᵀY‖_F) of centred outputs X, Y [tokens, d] (Kornblith et al. 2019, arXiv 1905.00414). It
    needs many more tokens than d: outputs without any relation give about d / tokens. The effective rank is
    exp H(σ / Σσ), σ the singular values of centred outputs (Roy & Vetterli 2007).
    """

    shapes: ClassVar = {"output_cka": "LHH", "output_effective_rank": "LH"}
    first: Tensor
    second: Tensor
    tokens: Tensor

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        width = self.n_head * setting.head_size
        self.add_sum("first", self.n_layer, width)
        self.add_sum("second", self.n_layer, width, width)
        self.add_sum("tokens", dtype=torch.int64)

    def update(self, run: Pass) -> None:
        """Add one sequence."""
        self.tokens += len(range(self.setting.n_min - 1, run.maps[0].n_tokens))
        for layer, outputs in enumerate(run.outputs):
            x = outputs[:, self.setting.n_min - 1 :].double().transpose(0, 1).flatten(1)  # [T, H·d]
            self.first[layer] += x.sum(0)
            self.second[layer].addmm_(x.T, x)

    def compute(self) -> dict[str, Tensor]:
        """`output_cka` [L, H, H] and `output_effective_rank` [L, H]."""
        mean = self.first / self.tokens
        covariance = self.second / self.tokens - mean[:, :, None] * mean[:, None, :]
        heads = (self.n_head, self.setting.head_size)
        blocks = covariance.unflatten(2, heads).unflatten(1, heads).transpose(2, 3)  # [L, H, H, d, d]
        alike = blocks.square().sum((-2, -1))
        norm = alike.diagonal(dim1=1, dim2=2).sqrt()
        variances = torch.linalg.eigvalsh(blocks.diagonal(dim1=1, dim2=2).permute(0, 3, 1, 2)).clamp(min=0)
        sigma = variances.sqrt()
        return {
            "output_cka": alike / (norm[:, :, None] * norm[:, None, :]),
            "output_effective_rank": torch.special.entr(sigma / sigma.sum(-1, keepdim=True)).sum(-1).exp(),
        }
