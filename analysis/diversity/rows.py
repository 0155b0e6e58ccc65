"""Query rows: which of them count, in which blocks they are walked, and how they are sampled.

Row i, counted from 0, sees i + 1 keys. Bucket b holds the rows that see 2^b to 2^(b+1) - 1 keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sla_ablate.errors import InputError

BUCKETS = 32
"""Position buckets that a metric has room for: contexts below 2^32 tokens."""


def blocks(n_min: int, T: int, size: int) -> Iterator[Tensor]:
    """The rows that see at least `n_min` keys, ascending, at most `size` at a time and of one bucket each."""
    start = n_min - 1
    while start < T:
        stop = min(start + size, T, (1 << (start + 1).bit_length()) - 1)
        yield torch.arange(start, stop)
        start = stop


def bucket(rows: Tensor) -> Tensor:
    """The bucket of each row."""
    return (rows + 1).double().log2().long()  # exact: the logarithm of 2^b - 1 stays below b up to 2^48


class Sample(NamedTuple):
    """Rows drawn without replacement, two from each of consecutive strata of nearly equal size."""

    rows: Tensor
    """[n], ascending; rows 2s and 2s + 1 are stratum s."""
    strata: Tensor
    """Rows in each stratum, [n / 2]; each of its two stands for half of them."""

    def total(self, values: Tensor) -> Tensor:
        """Unbiased estimate of the sum over all rows, from `values` [..., n] of those drawn."""
        total: Tensor = (values.unflatten(-1, (-1, 2)).mean(-1) * self.strata).sum(-1)
        return total

    def variance(self, values: Tensor) -> Tensor:
        """Unbiased estimate of the variance of `total`: Σ N² (1 - 2/N) s²/2 over strata (Cochran 1977, eq. 5.7)."""
        halved_s2 = values.unflatten(-1, (-1, 2)).diff(dim=-1)[..., 0].square() / 4
        variance: Tensor = (halved_s2 * self.strata * (self.strata - 2)).sum(-1)
        return variance


def stratified(rows: Tensor, n: int, seed: int) -> Sample:
    """`n` of `rows`, spread over positions; a function of its arguments.

    Raises:
        InputError: n is odd, below 2 or above the number of rows.
    """
    if n % 2 or not 2 <= n <= len(rows):
        raise InputError(f"query_rows={n} is not possible; choose an even number from 2 to {len(rows)}")
    generator = torch.Generator().manual_seed(seed)
    strata = rows.tensor_split(n // 2)
    drawn = [stratum[torch.randperm(len(stratum), generator=generator)[:2]].sort().values for stratum in strata]
    return Sample(torch.cat(drawn), torch.tensor([len(stratum) for stratum in strata]))
