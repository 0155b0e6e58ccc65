"""The linear layer, with the faster of the CPU's GEMM libraries in float32.

PyTorch multiplies float32 matrices with MKL and bfloat16 ones with oneDNN. On an AMD processor oneDNN is the faster
in float32 too, by more than a tenth; on an Intel processor MKL is, by up to a quarter of a step
(`benchmarks/README.md`). These products make up most of a step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_CPU = Path("/proc/cpuinfo")
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
PREFERS_ONEDNN = HAS_ONEDNN and _CPU.is_file() and "AuthenticAMD" in _CPU.read_text(encoding="utf-8")


class Linear(nn.Linear):
    """`torch.nn.Linear`: [..., in_features] -> [..., out_features]."""

    def forward(self, input: Tensor) -> Tensor:
        """x Wᵀ + b."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b: [..., in_features], [out_features, in_features] -> [..., out_features]."""
    if _use_onednn(x, weight) and not torch.is_autocast_enabled("cpu"):
        if not torch.is_grad_enabled():  # lest a token of generation wait for what autograd prepares
            return _onednn_multiply(x, weight, bias)
        out: Tensor = _OneDNNLinear.apply(x, weight, bias)
        return out
    return F.linear(x, weight, bias)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """a bᵀ, without gradient: [N, K], [M, K] -> [N, M]."""
    return _onednn_multiply(a, b) if _use_onednn(a, b) else a @ b.T


def multiply_transposed(a: Tensor, b: Tensor) -> Tensor:
    """aᵀ b, without gradient: [N, K], [N, M] -> [K, M]."""
    if not _use_onednn(a, b):
        return a.T @ b
    # oneDNN copies its first factor into rows, so the narrow one goes first.
    return multiply(a.T, b.T) if a.shape[1] < b.shape[1] else multiply(b.T, a.T).T.contiguous()


def _use_onednn(a: Tensor, b: Tensor) -> bool:
    in_float32 = a.device.type == "cpu" and a.dtype == b.dtype == torch.float32
    return PREFERS_ONEDNN and in_float32 and not torch.compiler.is_compiling()


def _onednn_multiply(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a bᵀ + bias: [N, K], [M, K] -> [N, M]."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return out


class _OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _onednn_multiply(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        g = grad_out.reshape(-1, grad_out.shape[-1])
        return (
            _onednn_multiply(g, weight.T).view(x.shape) if needs_x else None,
            multiply_transposed(g, x.reshape(-1, x.shape[-1])) if needs_weight else None,
            g.sum(0) if needs_bias else None,
        )
