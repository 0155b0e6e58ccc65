"""The attention maps of one layer on one sequence, walked in tiles of rows and keys.

A block of rows is walked twice: once for the logarithm of each row's normaliser, once for the probabilities
p = exp(score - log normaliser). Probabilities and what is computed from one head's alone are in the precision of the
model, at least float32, as the scores are; what compares heads, differences of entropies, is in float64, and so are
all sums over tiles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from analysis.diversity import rows as query_rows

ROWS, KEYS = 64, 512
"""Rows and keys of a tile: those of a dozen heads stay in the cache."""
TINY = torch.finfo(torch.float64).tiny


class Maps:
    """The maps of H heads.

    Args:
        layer: whose maps.
        q: queries, [H, T, d].
        k: the keys that they met, [H, T, d].
    """

    def __init__(self, layer: int, q: Tensor, k: Tensor) -> None:
        wide = torch.promote_types(q.dtype, torch.float32)
        self.layer = layer
        self.q = q.to(wide)
        self.k = k.to(wide)
        self.n_tokens = q.shape[1]
        self._blocks: dict[int, list[Block]] = {}

    def blocks(self, n_min: int) -> list[Block]:
        """All rows that see at least `n_min` keys; the same blocks each time, with what they know already."""
        if n_min not in self._blocks:
            self._blocks[n_min] = [Block(self, rows) for rows in query_rows.blocks(n_min, self.n_tokens, ROWS)]
        return self._blocks[n_min]


class Block:
    """Some rows of the maps, against all keys that they see.

    Args:
        maps: whose rows.
        rows: which, [R], ascending.
    """

    def __init__(self, maps: Maps, rows: Tensor) -> None:
        self.maps = maps
        self.rows = rows.to(maps.q.device)
        self.bucket = int(query_rows.bucket(rows[:1]))
        """The position of the first row."""
        self.seen = int(rows[-1]) + 1
        """Keys that the last row sees."""
        self._first = int(rows[0])

    @cached_property
    def q(self) -> Tensor:
        """The rows' queries, scaled, [H, R, d]."""
        return self.maps.q[:, self.rows] / math.sqrt(self.maps.q.shape[-1])

    @cached_property
    def _normaliser(self) -> tuple[Tensor, Tensor]:
        """ln Σ_j exp(score) and the greatest score of each row, [H, R] both (online softmax, Milakov 2018)."""
        total = self.zeros(len(self.maps.q))
        peak = torch.full_like(total, -math.inf)
        for keys in self.key_tiles():
            s = self.hide(self.scores(keys), keys, -math.inf)
            higher = torch.maximum(peak, s.amax(-1))  # finite: every row sees key 0
            s -= higher[..., None].to(s.dtype)  # itself a score: nothing is rounded away
            total = total * (peak - higher).exp() + s.exp_().sum(-1)
            peak = higher
        return peak + total.log(), peak

    @property
    def log_normaliser(self) -> Tensor:
        """ln Σ_j exp(score) of each row, [H, R]."""
        return self._normaliser[0]

    @property
    def confidence(self) -> Tensor:
        """Greatest probability of each row, [H, R]."""
        log_normaliser, peak = self._normaliser
        return (peak - log_normaliser).exp()

    def at(self, keys: Tensor) -> Tensor:
        """The probability of one key in each row, [H, R], of keys [R] at or before the rows."""
        score = torch.linalg.vecdot(self.q, self.maps.k[:, keys])
        probability: Tensor = (score.double() - self.log_normaliser).exp()
        return probability

    def zeros(self, n: int) -> Tensor:
        """Float64 sums for each row, [n, R]."""
        return self.maps.q.new_zeros(n, len(self.rows), dtype=torch.float64)

    def key_tiles(self) -> Iterator[slice]:
        """Ranges of keys that cover all that some row of the block sees."""
        return (slice(start, min(start + KEYS, self.seen)) for start in range(0, self.seen, KEYS))

    def tiles(self) -> Iterator[Tile]:
        """The probabilities, some keys at a time."""
        return map(self.tile, self.key_tiles())

    def tile(self, keys: slice) -> Tile:
        """The probabilities of a range of keys."""
        s = self.scores(keys)
        log_p = self.hide(s.sub_(self.log_normaliser[..., None].to(s.dtype)), keys, -math.inf)
        root = (log_p / 2).exp_()
        return Tile(self, keys, root.square(), root, self.hide(log_p, keys, 0))

    def scores(self, keys: slice) -> Tensor:
        """q·k / √d, [H, R, K], of hidden keys too."""
        return self.q @ self.maps.k[:, keys].transpose(1, 2)

    def hide(self, x: Tensor, keys: slice, value: float) -> Tensor:
        """`x` [H, R, K], overwritten by `value` where a key comes after the row."""
        start = max(keys.start, self._first + 1)  # keys before that are seen by all rows
        if start < keys.stop:
            hidden = torch.arange(start, keys.stop, device=self.rows.device) > self.rows[:, None]
            x[..., start - keys.start :].masked_fill_(hidden, value)
        return x


@dataclass(frozen=True)
class Tile:
    """The probabilities of a block of rows and a range of keys, in the precision of the scores."""

    block: Block
    keys: slice
    p: Tensor
    """[H, R, K]; 0 where a row does not see the key."""
    root: Tensor
    """√p, [H, R, K]."""
    log_p: Tensor
    """ln p, [H, R, K]; 0 where a row does not see the key."""

    @property
    def is_first(self) -> bool:
        """True for the block's first tile, the one to count its rows by."""
        return bool(self.keys.start == 0)

    @cached_property
    def entropy(self) -> Tensor:
        """The terms -Σ p ln p of each head and row, [H, R], float64; the logarithm is known from the scores."""
        terms: Tensor = torch.linalg.vecdot(self.p, self.log_p)
        return -terms.double()

    @cached_property
    def mean(self) -> Tensor:
        """The heads' mean map, [R, K], float64."""
        return self.p.mean(0).double()


def entropy_terms(p: Tensor) -> Tensor:
    """-Σ p ln p over the last dimension, of a range of keys; float64.

    Twice as fast as `torch.special.entr` and exact, 0 included: below `TINY` p ln p is less than 1e-305.
    """
    terms: Tensor = torch.linalg.vecdot(p, p.clamp(min=TINY).log())
    return -terms
