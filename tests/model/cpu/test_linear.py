"""Both GEMM libraries give the products of the linear layer and its gradients, whichever this processor prefers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sla_ablate.model.cpu import linear


@pytest.fixture(params=["onednn", "mkl"])
def library(request, monkeypatch):
    if request.param == "onednn" and not linear.HAS_ONEDNN:
        pytest.skip("this build of PyTorch has no oneDNN")
    called = []
    if linear.HAS_ONEDNN:
        product = linear._onednn_multiply
        monkeypatch.setattr(linear, "_onednn_multiply", lambda *args: called.append(1) or product(*args))
    monkeypatch.setattr(linear, "PREFERS_ONEDNN", request.param == "onednn")
    yield
    assert bool(called) == (request.param == "onednn")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("n_in", "n_out"), [(5, 12), (12, 5)])
def test_outputs_and_gradients(library, n_in, n_out, bias):
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 7, n_in), (n_out, n_in), *([(n_out,)] if bias else [])]
    ours = [torch.randn(shape, generator=generator, requires_grad=True) for shape in shapes]
    exact = [x.detach().double().requires_grad_() for x in ours]
    mix = torch.randn(2, 7, n_out, generator=generator)
    out, expected = linear.linear(*ours), F.linear(*exact)
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=1e-5)
    gradients = torch.autograd.grad(out, ours, mix), torch.autograd.grad(expected, exact, mix.double())
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=0, atol=1e-5)


def test_products_of_the_loss(library):
    generator = torch.Generator().manual_seed(0)
    a, b, c = (torch.randn(shape, generator=generator) for shape in ((6, 4), (9, 4), (6, 3)))
    torch.testing.assert_close(linear.multiply(a, b), a @ b.T)
    torch.testing.assert_close(linear.multiply_transposed(a, c), a.T @ c)
    torch.testing.assert_close(linear.multiply_transposed(c, a), c.T @ a)
