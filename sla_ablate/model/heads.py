"""Which rows of c_attn take part, and how the keys and values that heads read come together from several layers.

A layer computes the keys and values of those of its heads that some head reads, "kept" ones. Runs of kept heads that
the same layers read are pieces. A layer lends pieces to layers above it, and joins its own with those that it borrows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import torch
from torch import Tensor

from sla_ablate.patterns import Mask, Table


class KeptRows:
    """The rows of c_attn that take part: those of all queries, and of the keys and values that are kept.

    Args:
        keys: which heads' keys are kept, [n_head].
        values: which heads' values are kept, [n_head].
        head_size: rows of one head.
    """

    def __init__(self, keys: Mask, values: Mask, head_size: int) -> None:
        self.heads = [len(keys), int(keys.sum()), int(values.sum())]
        """Numbers of queries, keys and values that remain."""
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


@dataclass(frozen=True)
class Pieces:
    """How one layer joins the keys (or the values) that its heads read."""

    sizes: list[int]
    """Heads in each of the layer's own pieces."""
    lent: list[int]
    """The own pieces, by number, that layers above read."""
    borrowed: list[tuple[int, int]]
    """Pieces of layers below that its heads read: the layer, and which of the pieces that it lends."""
    order: list[int]
    """The pieces that its heads read, in the order of the heads, as numbers into the borrowed and then its own."""
    is_shared: bool
    """True if several layers read all of this layer's heads and nothing else."""

    def split(self, own: Tensor) -> Sequence[Tensor]:
        """The layer's own pieces, [B, some heads, T, head_size] each, from those of its kept heads."""
        if self.is_shared:  # one copy for all layers that read them, rather than one for each in its attention call
            own = own.contiguous()
        return (own,) if len(self.sizes) == 1 else own.split(self.sizes, dim=1)

    def join(self, borrowed: Sequence[Tensor], own: Sequence[Tensor]) -> Tensor:
        """What the heads read, [B, n_head, T, head_size]; no copy where it is one piece."""
        pieces = [*borrowed, *own]
        read = [pieces[number] for number in self.order]
        return read[0] if len(read) == 1 else torch.cat(read, dim=1)


def pieces(source: Table, kept: Mask) -> list[Pieces]:
    """The pieces of every layer.

    Args:
        source: the layer that each head reads, [n_layer, n_head].
        kept: which heads are kept, [n_layer, n_head]; at least those that are read.
    """
    layers = range(len(source))
    runs = [_runs(source == layer, kept[layer]) for layer in layers]
    number = [{head: i for i, run in enumerate(runs[layer]) for head in run} for layer in layers]
    # Whole runs are read, one after the other: a layer and the number of its run each.
    places = [[(below, number[below][head]) for head, below in enumerate(row)] for row in source.tolist()]
    read = [[run for run, _ in groupby(row)] for row in places]
    lent = [sorted({i for row in read[layer + 1 :] for below, i in row if below == layer}) for layer in layers]
    plans = []
    for layer in layers:
        borrowed = [run for run in read[layer] if run[0] < layer]
        available = [*borrowed, *((layer, i) for i in range(len(runs[layer])))]
        plans.append(
            Pieces(
                sizes=[len(run) for run in runs[layer]],
                lent=lent[layer],
                borrowed=[(below, lent[below].index(i)) for below, i in borrowed],
                order=[available.index(run) for run in read[layer]],
                is_shared=int((source == layer).all(1).sum()) > 1,
            )
        )
    return plans


def _runs(reads: Mask, kept: Mask) -> list[range]:
    """Runs of adjacent kept heads [n_head] of a layer that the same layers read, by `reads` [n_layer, n_head]."""
    groups = [list(run) for _, run in groupby(range(len(kept)), lambda head: (kept[head], *reads[:, head]))]
    return [range(run[0], run[-1] + 1) for run in groups if kept[run[0]]]
