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

LONGEST_BLOCKWISE = 1024
"""Tokens up to which the blockwise CPU kernel is used; beyond, its T² memory outweighs its speed."""


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
    if q.device.type == "cpu" and dropout == 0 and q.shape[-2] <= LONGEST_BLOCKWISE:
        return blockwise_attention(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)


def blockwise_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention over blocks of query rows, each against only the keys that it can see."""
    rows = 64 if q.shape[-2] < 512 else 128
    out: Tensor = _Blockwise.apply(q, k, v, rows)
    return out


def _like_heads(shape: torch.Size, like: Tensor) -> Tensor:
    """Empty [B, H, T, head_size] over memory laid out [B, T, H, head_size], so that joining the heads is no copy."""
    B, H, T, head_size = shape
    return like.new_empty(B, T, H, head_size).transpose(1, 2)


@functools.lru_cache(maxsize=8)
def _causal_bias(rows: int, dtype: torch.dtype) -> Tensor:
    """[rows, rows]: 0 where a row sees the column, -inf above the diagonal."""
    return torch.full((rows, rows), -math.inf, dtype=dtype).triu(1)


class _Blockwise(torch.autograd.Function):
    """B·H products in one batch; a block of rows i:j sees the keys 0:j, masked on its diagonal square only."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: int) -> Tensor:
        shape = q.shape
        T, head_size = shape[-2:]
        scale = 1 / math.sqrt(head_size)
        # One product with the scale folded into q is cheaper than scaling every [rows, T] block of scores.
        q, k, v = (x.reshape(-1, T, head_size) for x in (q * scale, k, v))
        out = _like_heads(shape, q)
        probabilities = []
        for i in range(0, T, rows):
            j = min(i + rows, T)
            p = q[:, i:j] @ k[:, :j].transpose(1, 2)
            p[..., i:] += _causal_bias(j - i, p.dtype)
            p = p.softmax(-1)
            out[:, :, i:j] = (p @ v[:, :j]).view(*shape[:-2], j - i, head_size)
            probabilities.append(p)
        ctx.save_for_backward(q, k, v, *probabilities)
        ctx.scale, ctx.rows = scale, rows
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, *probabilities = ctx.saved_tensors
        shape = grad_out.shape
        T = shape[-2]
        grad_out = grad_out.reshape(v.shape)
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.empty(0), torch.empty(0)
        # The last rows see every key, so their products are whole gradients to which the others are added.
        for i, p in reversed(list(zip(range(0, T, ctx.rows), probabilities, strict=True))):
            j = min(i + ctx.rows, T)
            g = grad_out[:, i:j]
            grad_p = g @ v[:, :j].transpose(1, 2)
            grad_s = torch._softmax_backward_data(grad_p, p, -1, p.dtype)
            torch.matmul(grad_s, k[:, :j], out=grad_q[:, i:j])
            if j == T:
                grad_k, grad_v = grad_s.transpose(1, 2) @ q[:, i:j], p.transpose(1, 2) @ g
            else:
                grad_k[:, :j] += grad_s.transpose(1, 2) @ q[:, i:j]
                grad_v[:, :j] += p.transpose(1, 2) @ g
        return (grad_q * ctx.scale).view(shape), grad_k.view(shape), grad_v.view(shape), None
