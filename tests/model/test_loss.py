from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sla_ablate.errors import InputError
from sla_ablate.model import loss
from sla_ablate.model.loss import IGNORE, mean_nll, token_nll


def problem(N=70, C=5, V=11, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, C, generator=generator, dtype=dtype).requires_grad_()
    weight = torch.randn(V, C, generator=generator, dtype=dtype).requires_grad_()
    targets = torch.randint(V, (N,), generator=generator)
    targets[::7] = IGNORE
    return hidden, weight, targets


@pytest.mark.parametrize("block", [1, 16, 70, 1024])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mean_nll_equals_cross_entropy_with_gradients(monkeypatch, block, smoothing):
    monkeypatch.setitem(loss.BLOCK, "cpu", block)
    hidden, weight, targets = problem()
    ours = mean_nll(hidden, weight, targets, smoothing)
    theirs = F.cross_entropy(hidden @ weight.T, targets, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)
    for a, b in zip(
        torch.autograd.grad(3 * ours, (hidden, weight)),
        torch.autograd.grad(3 * theirs, (hidden, weight)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


def test_frozen_output_layer():
    hidden, weight, targets = problem()
    frozen = weight.detach()
    (ours,) = torch.autograd.grad(mean_nll(hidden, frozen, targets), hidden)
    (theirs,) = torch.autograd.grad(F.cross_entropy(hidden @ frozen.T, targets), hidden)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


def test_token_nll_equals_cross_entropy(monkeypatch):
    monkeypatch.setitem(loss.BLOCK, "cpu", 16)
    hidden, weight, targets = problem()
    expected = F.cross_entropy(hidden @ weight.T, targets, reduction="none")
    torch.testing.assert_close(token_nll(hidden, weight, targets), expected, rtol=0, atol=1e-13)


def test_zero_hidden_states_are_uniform():
    nll = token_nll(torch.zeros(3, 4), torch.randn(50, 4), torch.tensor([0, 7, 49]))
    torch.testing.assert_close(nll, torch.full((3,), 50.0).log())


def test_float32_logits_of_all_tokens_never_exist(monkeypatch):
    """The largest tensor that the loss makes is one block's logits."""
    monkeypatch.setitem(loss.BLOCK, "cpu", 8)
    made = []

    class Spy(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            made.extend(t.numel() for t in torch.utils._pytree.tree_leaves(out) if isinstance(t, torch.Tensor))
            return out

    hidden, weight, targets = problem(N=400, C=3, V=40)
    with Spy():
        mean_nll(hidden, weight, targets).backward()
    assert max(made) <= 400 * 3


@pytest.mark.parametrize("target", [-1, -99, -101, 12, 2**40])
def test_targets_out_of_range_are_refused_as_pytorch_refuses_them(target):
    hidden, weight = torch.randn(4, 8), torch.randn(12, 8)
    targets = torch.tensor([3, -100, target, 1])
    with pytest.raises(Exception, match=r"out of bounds|out of range"):
        torch.nn.functional.cross_entropy(hidden @ weight.T, targets)
    for score in (mean_nll, token_nll):
        with pytest.raises(InputError, match=f"target {target} is none of the vocabulary's, 0 to 11"):
            score(hidden, weight, targets)
