"""How far the residual stream is from one vector repeated."""

from __future__ import annotations

import torch
from torch import Tensor

from analysis.diversity.metric import Pass, PassMetric, Setting


class RankResidual(PassMetric):
    """‖X - 1xᵀ‖_F / ‖X‖_F with x the mean token, of [0, 1] (Dong et al. 2021, arXiv 2103.03404, in Frobenius norm).

    X is the residual stream [T, C] before each layer and after the last; a mean over sequences.
    """

    residual: Tensor
    sequences: Tensor

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.add_sum("residual", self.n_layer + 1)
        self.add_sum("sequences", dtype=torch.int64)

    def update(self, run: Pass) -> None:
        """Add one sequence."""
        self.sequences += 1
        for i, x in enumerate(run.stream):
            wide = x.double()
            self.residual[i] += (wide - wide.mean(0)).norm() / wide.norm()

    def compute(self) -> dict[str, Tensor]:
        """`rank_residual` [L + 1]."""
        return {"rank_residual": self.residual / self.sequences}
