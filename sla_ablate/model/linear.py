"""The linear layer, with the faster of the CPU's GEMM libraries in float32.

PyTorch multiplies float32 matrices with MKL and bfloat16 ones with oneDNN. Given float32, oneDNN is the faster
by about a tenth in the products x Wᵀ and g W (`benchmarks/README.md`), and the two make up most of a step.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear(nn.Linear):
    """`torch.nn.Linear`: [..., in_features] -> [..., out_features]."""

    def forward(self, input: Tensor) -> Tensor:
        """x Wᵀ + b."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x Wᵀ + b: [..., in_features], [out_features, in_features] -> [..., out_features]."""
    in_float32 = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    if _HAS_ONEDNN and in_float32 and not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling():
        out: Tensor = _OneDNNLinear.apply(x, weight, bias)
        return out
    return F.linear(x, weight, bias)


def _multiply(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a bᵀ + bias by oneDNN: [N, K], [M, K] -> [N, M]."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return out


class _OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        g = grad_out.reshape(-1, grad_out.shape[-1])
        return (
            _multiply(g, weight.T).view(x.shape) if needs_x else None,
            g.T @ x.reshape(-1, x.shape[-1]) if needs_weight else None,
            g.sum(0) if needs_bias else None,
        )
