"""Keys and values that some head reads: which rows of c_attn make them, and where a head finds its own."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sla_ablate.patterns.skip_pattern import Mask, Table


class Heads(NamedTuple):
    """Keys (or values) of one layer, of the heads that are kept."""

    stacked: Tensor
    """[B, kept heads, T, head_size]"""
    single: tuple[Tensor, ...]
    """The same head by head, from one `unbind`: as many selects would each make a gradient of the whole."""

    @classmethod
    def of(cls, stacked: Tensor) -> Heads:
        """From [B, kept heads, T, head_size]."""
        return cls(stacked, stacked.unbind(1))


class Sources:
    """Where the heads of one layer find their keys (or their values).

    Args:
        source: the layer that each head reads, [n_head].
        kept: which heads of which layers are kept, [n_layer, n_head].
    """

    def __init__(self, source: Table, kept: Mask) -> None:
        slot = kept.cumsum(1) - 1
        self.places: list[tuple[int, int]] = list(
            zip(source.tolist(), slot[source, np.arange(len(source))].tolist(), strict=True)
        )
        """Layer, and place among its kept heads, for each head."""
        self.only: int | None = int(source[0]) if (source == source[0]).all() else None
        """The one layer that all heads read; None if they differ."""

    @staticmethod
    def shared(source: Table, layer: int) -> bool:
        """Whether all heads of more than one layer read this one layer."""
        return int((source == layer).all(1).sum()) > 1

    def read(self, layers: list[Heads]) -> Tensor:
        """What the heads read, [B, n_head, T, head_size]; no copy where it is one layer's."""
        if self.only is not None:
            return layers[self.only].stacked
        return torch.stack([layers[layer].single[slot] for layer, slot in self.places], dim=1)


class KeptRows:
    """The rows of c_attn that take part: those of all queries, and of the keys and values that are kept.

    Args:
        keys: which heads' keys are kept, [n_head].
        values: which heads' values are kept, [n_head].
        head_size: rows of one head.
    """

    def __init__(self, keys: Mask, values: Mask, head_size: int) -> None:
        self.heads = [len(keys), int(keys.sum()), int(values.sum())]
        """Queries, keys and values that remain."""
        kept = np.concatenate([np.ones_like(keys), keys, values])
        edges = [0, *(np.flatnonzero(np.diff(kept)) + 1).tolist(), len(kept)]
        # Kept and dropped runs of rows alternate, and the first, with the queries, is kept.
        self._runs = [(b - a) * head_size for a, b in pairwise(edges)]

    def of(self, parameter: Tensor) -> Tensor:
        """The rows of a weight or bias [3C, ...]: the parameter itself if all, a view if they are the first ones."""
        if len(self._runs) == 1:
            return parameter
        kept = parameter.split(self._runs)[::2]
        return kept[0] if len(kept) == 1 else torch.cat(kept)
