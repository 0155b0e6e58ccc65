"""Induction score: does a head look at what followed the same token before?"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from analysis.diversity.maps import Block, Maps
from analysis.diversity.metric import HeadMetric, Pass, Setting
from sla_ablate.errors import InputError
from sla_ablate.model.capture import capture
from sla_ablate.model.gpt import GPT


class Induction(HeadMetric):
    """Mean over the second copy of a sequence of A[i, i-m+1], m its length (Olsson et al. 2022, arXiv 2209.11895)."""

    mass: Tensor
    rows: Tensor

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.add_sum("mass", self.n_layer, self.n_head)
        self.add_sum("rows", self.n_layer, dtype=torch.int64)

    def update(self, maps: Maps) -> None:
        """Add one layer's maps of tokens that are read twice."""
        m = maps.n_tokens // 2
        for rows in torch.arange(m, 2 * m).split(4096):
            self.mass[maps.layer] += Block(maps, rows).at(rows - m + 1).sum(-1)
        self.rows[maps.layer] += m

    def compute(self) -> dict[str, Tensor]:
        """`induction` [L, H]."""
        return {"induction": self.mass / self.rows[:, None]}


@torch.no_grad()
def induction_scores(model: GPT, length: int, sequences: int = 4, seed: int = 0) -> Tensor:
    """Each head's induction score [L, H] on `sequences` of `length` random tokens, read twice.

    Raises:
        InputError: twice the length exceeds the block size.
    """
    if not 1 <= length <= model.config.block_size // 2:
        raise InputError(f"length={length} is not possible; choose 1 to {model.config.block_size // 2}")
    once = np.random.default_rng(seed).integers(model.config.vocab_size, size=(sequences, length))
    tokens = torch.from_numpy(np.tile(once, 2)).to(model.device)
    metric = Induction(Setting(model.pattern, model.config.head_size)).to(tokens.device)
    for sequence in tokens.split(1):
        with capture(model) as captured:
            model.hidden_states(sequence)
        for maps in Pass.of(captured, 0).maps:
            metric.update(maps)
    return metric.compute()["induction"]
