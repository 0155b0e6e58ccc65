"""Importance, knock-out and rerouting, against closed forms and the model with its outputs changed by hand."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from random_models import model_of, models, random_tokens

from analysis.diversity.metric import Setting
from analysis.diversity.roles import skip_heads
from analysis.importance import HeadImportance, KnockOut, add_importance, rerouted, without_heads
from sla_ablate import GPT, SkipPattern


def batch(B=2, T=8):
    tokens = random_tokens(B, T + 1)
    targets = tokens[:, 1:].clone()
    targets[0, 2] = -100
    return tokens[:, :-1], targets


def setting(model):
    return Setting(model.pattern, model.config.head_size)


def test_importance_of_a_loss_that_is_linear_in_the_outputs():
    """L = Σ_h c_h 1ᵀ o_h gives the mean of |c_h 1ᵀ o_h,t| (metrics.md)."""
    o = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    c = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    loss = (c[:, None, None] * o).sum()
    metric = HeadImportance(Setting(SkipPattern.baseline(1, 3), 4))
    for part in (slice(0, 1), slice(1, 2)):
        metric.update([o[part].detach()], [torch.autograd.grad(loss, o, retain_graph=True)[0][part]])
    expected = (c[:, None] * o.sum(-1)).abs().mean((0, 2))
    torch.testing.assert_close(metric.compute()["importance"][0], expected.detach())


@settings(max_examples=5, deadline=None)
@given(models())
def test_importance_is_the_summed_losss_derivative_along_the_output(model):
    """Per token |o · ∂L/∂o|: the derivative of L when that token's output of the head is scaled."""
    tokens, targets = batch(1, 4)
    metric = HeadImportance(setting(model))
    add_importance(metric, model, tokens, targets)
    layer, head, d = model.config.n_layer - 1, model.config.n_head - 1, model.config.head_size

    def loss(t, factor):
        def scale(module, inputs):
            y = inputs[0].clone()
            y[:, t, head * d : (head + 1) * d] *= factor
            return (y,)

        handle = model.h[layer].attn.c_proj.register_forward_pre_hook(scale)
        value = model.nll(tokens, targets).sum()
        handle.remove()
        return value

    slopes = [abs(loss(t, 1 + 1e-5) - loss(t, 1 - 1e-5)) / 2e-5 for t in range(4)]
    np.testing.assert_allclose(metric.compute()["importance"][layer, head], np.mean(slopes), rtol=1e-5, atol=1e-8)


@settings(max_examples=5, deadline=None)
@given(models())
def test_knock_out_is_the_loss_with_the_outputs_set_to_zero(model):
    tokens, targets = batch()
    before = {name: p.clone() for name, p in model.named_parameters()}
    metric = KnockOut(setting(model))
    for part in (slice(0, 1), slice(1, 2)):
        metric.update(model, tokens[part], targets[part])
    results = metric.compute()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    skips, d = skip_heads(model.pattern), model.config.head_size

    def change(layer, heads):
        columns = [h * d + i for h in heads for i in range(d)]

        def zero(module, inputs):
            y = inputs[0].clone()
            y[..., columns] = 0
            return (y,)

        with torch.no_grad():
            base = model(tokens, targets)
            handle = model.h[layer].attn.c_proj.register_forward_pre_hook(zero)
            without = model(tokens, targets)
            handle.remove()
        return (without - base).item()

    for layer, row in enumerate(skips):
        one = [change(layer, [h]) for h in range(len(row))]
        np.testing.assert_allclose(results["knock_out"][layer], one, atol=1e-10)
        for role, heads in (("own", np.flatnonzero(~row)), ("skip", np.flatnonzero(row))):
            expected = change(layer, heads) if len(heads) else np.nan
            np.testing.assert_allclose(results[f"knock_out_all_{role}"][layer], expected, atol=1e-10)


def test_rerouting_is_the_same_weights_under_the_other_pattern():
    pattern = SkipPattern.from_tables([[0, 0], [0, 1], [1, 2]], [[0, 0], [0, 0], [2, 2]])
    model = model_of(pattern)
    tokens, targets = batch()
    metric = KnockOut(setting(model))
    metric.update(model, tokens, targets)
    results = metric.compute()
    assert torch.isnan(results["reroute"]).tolist() == (~skip_heads(pattern)).tolist()

    def change(key_source, value_source):
        twin = GPT(model.config, SkipPattern.from_tables(key_source, value_source)).double()
        twin.load_state_dict(model.state_dict())
        with torch.no_grad():
            return (twin(tokens, targets) - model(tokens, targets)).item()

    one = change([[0, 0], [1, 1], [1, 2]], [[0, 0], [1, 0], [2, 2]])
    np.testing.assert_allclose(results["reroute"][1, 0], one, atol=1e-10)
    both = change([[0, 0], [1, 1], [1, 2]], [[0, 0], [1, 1], [2, 2]])
    np.testing.assert_allclose(results["reroute_all_skip"], [np.nan, both, results["reroute"][2, 0]], atol=1e-10)


def test_rerouting_draws_no_random_numbers_and_shares_the_weights():
    model = model_of(SkipPattern.skip_layer(2, 2, distance=1, heads=1))
    state = torch.get_rng_state()
    twin = rerouted(model, skip_heads(model.pattern))
    assert torch.equal(torch.get_rng_state(), state)
    assert twin.pattern.is_baseline
    assert twin.wte.weight.data_ptr() == model.wte.weight.data_ptr()


def test_weights_come_back_after_an_error():
    model = model_of(SkipPattern.baseline(2, 2))
    before = model.h[0].attn.c_proj.weight.detach().clone()
    try:
        with without_heads(model, np.ones((2, 2), dtype=bool)):
            assert (model.h[0].attn.c_proj.weight == 0).all()
            raise KeyError
    except KeyError:
        pass
    assert torch.equal(model.h[0].attn.c_proj.weight, before)
