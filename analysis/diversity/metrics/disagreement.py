"""Disagreement on what heads read and write."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from analysis.diversity.metric import Pass, PassMetric, Setting

TOKENS = 256
"""Taken at one time: what all heads write takes H · C numbers a token."""
SUBJECTS = ("value_disagreement", "output_disagreement", "write_disagreement")


class Disagreement(PassMetric):
    """-(1/H²) Σ_ij ⟨cos(x_i, x_j)⟩ per token, the diagonal included (Li et al. 2018, arXiv 1810.10183).

    Of values and outputs as Li et al. have them, which a change of basis inside a head alters though the model stays
    the same; and of what the heads write to the residual stream, z_h = o_h W_O^h, which it does not.
    """

    tokens: Tensor

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        for name in SUBJECTS:
            self.add_sum(name, self.n_layer)
        self.add_sum("tokens", dtype=torch.int64)

    def update(self, run: Pass) -> None:
        """Add one sequence."""
        first = self.setting.n_min - 1
        self.tokens += len(range(first, run.maps[0].n_tokens))
        for layer, layer_weight in enumerate(run.output_weights):
            values, outputs = run.values[layer][:, first:], run.outputs[layer][:, first:]
            for v, o in zip(values.split(TOKENS, dim=1), outputs.split(TOKENS, dim=1), strict=True):
                for name, x in zip(SUBJECTS, (v, o, o @ layer_weight), strict=True):
                    getattr(self, name)[layer] -= _mean_cosines(x).sum()

    def compute(self) -> dict[str, Tensor]:
        """Means over tokens, [L]."""
        return {name: getattr(self, name) / self.tokens for name in SUBJECTS}


def _mean_cosines(x: Tensor) -> Tensor:
    """The mean cosine of all pairs of heads at each token, [T], of x [H, T, width]: the squared mean unit vector."""
    return F.normalize(x.double(), dim=-1).mean(0).square().sum(-1)
