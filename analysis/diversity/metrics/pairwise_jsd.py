"""How much the maps of two heads differ."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from analysis.diversity import maps as attention_maps
from analysis.diversity import rows as query_rows
from analysis.diversity.maps import Block, Maps, entropy_terms
from analysis.diversity.metric import Pass, PassMetric, Setting
from analysis.diversity.roles import pair_blocks
from analysis.diversity.rows import BUCKETS, Sample


class PairwiseJSD(PassMetric):
    """⟨H((p+q)/2) - H(p)/2 - H(q)/2⟩ of each pair of heads in nats, of [0, ln 2] (Lin 1991).

    The H(H-1)/2 logarithms of every row and key make it the dearest of all metrics. With `query_rows` it is estimated
    from that many rows of each sequence, all of its layers on the same ones, drawn anew for each sequence: unbiased,
    with the standard error of each pair and of each mean over pairs.
    """

    shapes: ClassVar = {"pairwise_jsd": "LHH"}
    divergence: Tensor
    weight: Tensor
    variance: Tensor
    block_variance: Tensor
    rows: Tensor
    sequences: Tensor

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        i, j = torch.triu_indices(self.n_head, self.n_head, 1)
        pairs = len(i)
        blocks = pair_blocks(self.skip)
        self.blocks = list(blocks)
        members = torch.stack([mask[:, i, j] for mask in blocks.values()], 1).double()
        self.means = members / members.sum(-1, keepdim=True)
        """Weights of the pairs in the mean over each block of them, [L, blocks, pairs]; NaN for none."""
        self.add_sum("divergence", BUCKETS, self.n_layer, pairs)
        self.add_sum("weight", BUCKETS, self.n_layer)
        self.add_sum("variance", self.n_layer, pairs)
        self.add_sum("block_variance", self.n_layer, len(blocks))
        self.add_sum("rows", self.n_layer, dtype=torch.int64)
        self.add_sum("sequences", dtype=torch.int64)

    def update(self, run: Pass) -> None:
        """Add one sequence."""
        setting, T = self.setting, run.maps[0].n_tokens
        eligible = torch.arange(setting.n_min - 1, T)
        sample = None
        if setting.query_rows is not None and setting.query_rows < len(eligible):
            sample = query_rows.stratified(eligible, setting.query_rows, (setting.seed << 32) + int(self.sequences))
        self.sequences += 1
        rows = eligible if sample is None else sample.rows
        for maps in run.maps:
            if len(rows):
                self._add(maps.layer, rows, row_divergences(maps, rows), sample)

    def _add(self, layer: int, rows: Tensor, values: Tensor, sample: Sample | None) -> None:
        """Add the divergences [pairs, n] of a layer's rows, each of which stands for as many as its stratum says."""
        device = values.device
        weight = torch.ones(len(rows)) if sample is None else sample.strata.repeat_interleave(2) / 2
        weight, buckets = weight.double().to(device), query_rows.bucket(rows).to(device)
        self.weight[:, layer].index_add_(0, buckets, weight)
        self.divergence[:, layer].index_add_(0, buckets, (values * weight).T)
        self.rows[layer] += len(rows)
        if sample is not None:
            sample = Sample(sample.rows, sample.strata.to(device))
            self.variance[layer] += sample.variance(values)
            self.block_variance[layer] += sample.variance(self.means[layer].to(device) @ values)

    def compute(self) -> dict[str, Tensor]:
        """Means over rows, their standard errors from sampling these (0 if none was left out), and their number."""
        weight = self.weight.sum(0)[:, None]
        errors = self.block_variance.sqrt() / weight
        return {
            "pairwise_jsd": self._matrix((self.divergence.sum(0) / weight).clamp(min=0)),
            "pairwise_jsd_error": self._matrix(self.variance.sqrt() / weight),
            **{f"pairwise_jsd_{block}_error": error for block, error in zip(self.blocks, errors.T, strict=True)},
            "pairwise_jsd_rows": self.rows.double(),
        }

    def by_position(self) -> dict[str, Tensor]:
        """Means over the rows of each bucket; NaN where it has none."""
        return {"pairwise_jsd": self._matrix((self.divergence / self.weight[..., None]).clamp(min=0))}

    def _matrix(self, pairs: Tensor) -> Tensor:
        """[..., pairs] -> symmetric [..., H, H] with a zero diagonal."""
        i, j = torch.triu_indices(self.n_head, self.n_head, 1, device=pairs.device)
        matrix = pairs.new_zeros(*pairs.shape[:-1], self.n_head, self.n_head)
        matrix[..., i, j] = matrix[..., j, i] = pairs
        return matrix


def row_divergences(maps: Maps, rows: Tensor) -> Tensor:
    """The divergence of each pair of heads, i < j in order, in each row, [pairs, R]."""
    return torch.cat([_block_divergences(Block(maps, part)) for part in rows.split(attention_maps.ROWS)], dim=1)


def _block_divergences(block: Block) -> Tensor:
    H = len(block.maps.q)
    joint, single = block.zeros(H * (H - 1) // 2), block.zeros(H)
    for tile in block.tiles():
        p = tile.p.double()
        single += entropy_terms(p)
        half = p / 2
        at = 0
        for i in range(H - 1):
            n = H - 1 - i
            joint[at : at + n] += entropy_terms(half[i] + half[i + 1 :])
            at += n
    i, j = torch.triu_indices(H, H, 1, device=joint.device)
    return joint - (single[i] + single[j]) / 2
