"""Causal attention: one call, several exact kernels, the fastest for the case at hand.

All kernels compute softmax(q kᵀ / √head_size) v with the same causal mask; they differ in speed only.
On a CPU, PyTorch's fused kernel spends most of a training step in short rows: it takes up to 3 times as long as
the same products done by the GEMM library on blocks of rows (`benchmarks/README.md` has the figures). The
blocks keep T²/2 probabilities a head for the backward pass, so long contexts go to the fused kernel, which
keeps none.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

LONGEST_BLOCKWISE = 1024
"""Tokens up to which the blockwise CPU kernel is used; beyond, its T² memory outweighs its speed."""
BLOCK_BYTES = 3 << 19
"""Bytes of attention scores computed at one time: about as many as stay in a core's share of the cache."""


def causal_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """Attention of each query to the keys at and before its position.

    Args:
        q: queries [B, H, T, head_size].
        k: keys actually attended to, [B, H, T, head_size].
        v: values actually attended to, [B, H, T, head_size].
        dropout: probability of dropping an attention weight.

    Returns:
        [B, H, T, head_size].
    """
    blockwise = q.device.type == "cpu" and dropout == 0 and q.shape[-2] <= LONGEST_BLOCKWISE
    if blockwise and not torch.compiler.is_compiling():
        return blockwise_attention(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)


def blockwise_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention over blocks of query rows, each against only the keys that it can see."""
    T = q.shape[-2]
    rows = 128 if q.dtype == torch.bfloat16 and (T >= 512 or q.shape[-1] >= 32) else 64
    heads = max(8, BLOCK_BYTES // (rows * T * q.element_size()))
    out: Tensor = _Blockwise.apply(q, k, v, rows, heads)
    return out


@functools.lru_cache(maxsize=8)
def _causal_bias(rows: int, dtype: torch.dtype) -> Tensor:
    """[rows, rows]: 0 where a row sees the column, -inf above the diagonal."""
    return torch.full((rows, rows), -math.inf, dtype=dtype).triu(1)


class _Blockwise(torch.autograd.Function):
    """`heads` of the B·H heads at a time; a block of rows i:j sees the keys 0:j, masked on its diagonal square only."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: int, heads: int) -> Tensor:
        shape = q.shape
        T, head_size = shape[-2:]
        scale = 1 / math.sqrt(head_size)
        # One product with the scale folded into q is cheaper than scaling every [rows, T] block of scores.
        q = torch.mul(q, scale, out=q.new_empty(shape))
        q, k, v = (x.reshape(-1, T, head_size) for x in (q, k, v))
        out = torch.empty_like(q)
        probabilities = []
        for group, keys, values, y in zip(*(x.split(heads) for x in (q, k, v, out)), strict=True):
            for i in range(0, T, rows):
                j = min(i + rows, T)
                p = group[:, i:j] @ keys[:, :j].transpose(1, 2)
                p[..., i:] += _causal_bias(j - i, p.dtype)
                p = p.softmax(-1)
                torch.bmm(p, values[:, :j], out=y[:, i:j])
                probabilities.append(p)
        ctx.save_for_backward(q, k, v, *probabilities)
        ctx.scale, ctx.rows, ctx.heads = scale, rows, heads
        return out.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v, *probabilities = ctx.saved_tensors
        shape = grad_out.shape
        T = shape[-2]
        grads = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        groups = zip(*(x.split(ctx.heads) for x in (q, k, v, grad_out.reshape(v.shape), *grads)), strict=True)
        block = len(probabilities)
        # The last rows see every key, so their products are whole gradients to which the others are added.
        for query, key, value, g, grad_q, grad_k, grad_v in reversed(list(groups)):
            for i in reversed(range(0, T, ctx.rows)):
                j = min(i + ctx.rows, T)
                block -= 1
                p = probabilities[block]
                grad_p = g[:, i:j] @ value[:, :j].transpose(1, 2)
                grad_s = torch._softmax_backward_data(grad_p, p, -1, p.dtype)
                torch.bmm(grad_s, key[:, :j], out=grad_q[:, i:j])
                if j == T:
                    torch.bmm(grad_s.transpose(1, 2), query[:, i:j], out=grad_k)
                    torch.bmm(p.transpose(1, 2), g[:, i:j], out=grad_v)
                else:
                    grad_k[:, :j] += grad_s.transpose(1, 2) @ query[:, i:j]
                    grad_v[:, :j] += p.transpose(1, 2) @ g[:, i:j]
        grads[0].mul_(ctx.scale)
        grad_q, grad_k, grad_v = (grad.view(shape) for grad in grads)
        return grad_q, grad_k, grad_v, None, None
