from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sla_ablate.model.cpu import attention
from sla_ablate.model.cpu.attention import blockwise_attention, causal_attention


def random_qkv(B, H, T, head_size, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    # [B, T, H, head_size] transposed, as the model has them: not contiguous.
    draws = (torch.randn(B, T, H, head_size, generator=generator, dtype=dtype) for _ in range(3))
    return [x.transpose(1, 2).requires_grad_() for x in draws]


# Shorter than, equal to, a multiple of and between multiples of both block heights.
@pytest.mark.parametrize("T", [1, 17, 64, 130, 256, 513, 700])
def test_blockwise_equals_sdpa_with_gradients(T):
    q, k, v = random_qkv(2, 3, T, 8)
    weight = torch.randn(2, 3, T, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours = blockwise_attention(q, k, v)
    theirs = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    for a, b in zip(
        torch.autograd.grad(ours, (q, k, v), weight),
        torch.autograd.grad(theirs, (q, k, v), weight),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_blockwise_gradients_by_finite_differences():
    torch.autograd.gradcheck(blockwise_attention, random_qkv(1, 2, 5, 3))


def test_bfloat16_is_as_close_to_float64_as_sdpa_is():
    q, k, v = (x.detach() for x in random_qkv(2, 4, 256, 64))
    exact = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    half = [x.bfloat16() for x in (q, k, v)]
    ours = (blockwise_attention(*half).double() - exact).pow(2).mean().sqrt()
    theirs = (F.scaled_dot_product_attention(*half, is_causal=True).double() - exact).pow(2).mean().sqrt()
    assert ours < 1.5 * theirs


@pytest.mark.parametrize(
    ("T", "head_size", "dtype", "dropout", "blockwise"),
    [
        (256, 64, torch.float32, 0.0, True),
        (256, 16, torch.bfloat16, 0.0, True),
        (2048, 64, torch.bfloat16, 0.0, False),
        (256, 64, torch.float32, 0.1, False),
    ],
)
def test_kernel_choice(monkeypatch, T, head_size, dtype, dropout, blockwise):
    calls = []
    monkeypatch.setattr(attention, "blockwise_attention", lambda q, k, v: calls.append(q.shape) or q)
    q, k, v = (x.detach() for x in random_qkv(1, 1, T, head_size, dtype))
    causal_attention(q, k, v, dropout)
    assert bool(calls) == blockwise
