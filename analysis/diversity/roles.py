"""Own heads read their own layer; skip heads take their keys, their values or both from an earlier one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sla_ablate.patterns import SkipPattern
from sla_ablate.patterns.skip_pattern import Mask, Table


def skip_heads(pattern: SkipPattern) -> Mask:
    """[L, H]: whether a head is a skip head."""
    own = np.arange(pattern.n_layer)[:, None]
    skips: Mask = (pattern.key_source != own) | (pattern.value_source != own)
    return skips


def source_layers(pattern: SkipPattern) -> Table:
    """[L, H]: the layer that a skip head is compared with, where its keys come from or, if its own, its values."""
    own = np.arange(pattern.n_layer)[:, None]
    source: Table = np.where(pattern.key_source != own, pattern.key_source, pattern.value_source)
    return source


def role_means(values: Tensor, skip: Tensor) -> dict[str, Tensor]:
    """Means [L] of `values` [L, H] over own and over skip heads; NaN where a layer has none."""
    return {"own": _mean(values, ~skip), "skip": _mean(values, skip)}


def block_means(matrix: Tensor, skip: Tensor) -> dict[str, Tensor]:
    """Means [L] over pairs of different heads of `matrix` [L, H, H]: all, both own, own and skip, both skip.

    NaN where a layer has no such pair.
    """
    return {name: _mean(matrix.flatten(1), mask.flatten(1)) for name, mask in pair_blocks(skip).items()}


def pair_blocks(skip: Tensor) -> dict[str, Tensor]:
    """Pairs of different heads, masks [L, H, H] from `skip` [L, H]: all, both own, own and skip, both skip."""
    different = ~torch.eye(skip.shape[1], dtype=torch.bool, device=skip.device)
    a, b = skip[:, :, None], skip[:, None, :]
    blocks = {"off_diagonal": a | ~a, "own_own": ~a & ~b, "own_skip": a ^ b, "skip_skip": a & b}
    return {name: mask & different for name, mask in blocks.items()}


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return values.where(mask, 0).sum(1) / mask.sum(1)
