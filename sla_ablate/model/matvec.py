"""A matrix times one vector at the speed at which memory can be read.

Decoding one sequence reads every weight once a token and computes next to nothing, so it can be no faster than
memory. The GEMM libraries reach a third to two thirds of that with rows of 384 to 768 numbers
(`benchmarks/README.md`). But W x is a sum of W's columns weighted by x, and PyTorch's kernel for weighted sums of rows,
embedding_bag, reads memory in order: over a copy of W in strips of a few rows, stored column by column, it gets all
of the bandwidth, in bfloat16 too.
"""

from __future__ import annotations

import torch
from torch import Tensor

STRIP_BYTES = 128
"""Two cache lines: a column of a strip."""


class MatVec:
    """x -> x Wᵀ + b for one vector, [1, in_features] -> [1, out_features]; holds its own copy of the weights.

    Args:
        weight: [out_features, in_features].
        bias: [out_features].
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.out_features, in_features = weight.shape
        columns = in_features + (bias is not None)  # the bias is a column whose weight is always 1
        strip = STRIP_BYTES // weight.element_size()
        n_strips = -(-self.out_features // strip)
        self._strips = weight.new_empty(n_strips * columns, strip)
        strips = self._strips.view(n_strips, columns, strip)
        _fill(strips[:, :in_features], weight)
        if bias is not None:
            _fill(strips[:, in_features:], bias[:, None])
        self._rows = torch.arange(n_strips * columns, dtype=torch.int32)
        self._starts = torch.arange(n_strips, dtype=torch.int32) * columns
        self._weights = weight.new_ones(n_strips, columns)
        self._x = self._weights[:, :in_features]
        self._flat_weights = self._weights.view(-1)

    @staticmethod
    def is_fast(like: Tensor) -> bool:
        """Whether the kernel is fast for vectors like this one: on x86, in single or half precision."""
        return (
            like.device.type == "cpu"
            and like.dtype in (torch.float32, torch.bfloat16)
            and torch.backends.cpu.get_cpu_capability().startswith("AVX")
        )

    def __call__(self, x: Tensor) -> Tensor:
        """See the class."""
        self._x.copy_(x)  # for each strip
        sums: Tensor = torch.embedding_bag(
            self._strips, self._rows, self._starts, per_sample_weights=self._flat_weights
        )[0]
        row = sums.view(1, -1)
        return row if row.shape[1] == self.out_features else row[:, : self.out_features]


def _fill(strips: Tensor, matrix: Tensor) -> None:
    """Copy [rows, columns] into [n_strips, columns, rows of a strip], the last of which it may not fill."""
    rows, columns = matrix.shape
    strip = strips.shape[-1]
    whole = rows // strip
    strips[:whole] = matrix[: whole * strip].view(whole, strip, columns).transpose(1, 2)
    if whole < len(strips):
        strips[whole, :, : rows - whole * strip] = matrix[whole * strip :].T
        strips[whole, :, rows - whole * strip :] = 0
