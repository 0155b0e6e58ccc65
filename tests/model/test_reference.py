"""The model against GPT-2 with a pattern, written down once more as plainly as possible."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from random_models import FAMILY, model_of, models, random_tokens


def reference_logits(state, config, key_source, value_source, tokens):
    """Logits [B, T, V] from weights, shape and tables, head by head, with nothing of the package's."""
    T, d = tokens.shape[1], config.n_embd // config.n_head

    def affine(x, name):
        return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0)

    def norm(x, name):
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return x * state[f"{name}.weight"] + state.get(f"{name}.bias", 0)

    def turned(x):
        """Components i and i + d/2 as a complex number, times e^(i·angle)."""
        if config.positions == "learned":
            return x
        angles = [[t / config.rotary_base ** (2 * i / d) for i in range(d // 2)] for t in range(T)]
        angle = torch.tensor(angles, dtype=torch.float64)
        z = torch.complex(x[..., : d // 2], x[..., d // 2 :]) * torch.polar(torch.ones_like(angle), angle)
        return torch.cat([z.real, z.imag], -1)

    x = state["wte.weight"][tokens]
    if config.positions == "learned":
        x = x + state["wpe.weight"][:T]
    keys, values = [], []
    for layer in range(config.n_layer):
        q, k, v = affine(norm(x, f"h.{layer}.ln_1"), f"h.{layer}.attn.c_attn").split(config.n_embd, -1)
        keys.append([turned(head) for head in k.split(d, -1)])
        values.append(v.split(d, -1))
        heads = []
        for h, query in enumerate(q.split(d, -1)):
            key, value = keys[key_source[layer][h]][h], values[value_source[layer][h]][h]
            p = (turned(query) @ key.mT / math.sqrt(d)).exp().tril()
            heads.append(p / p.sum(-1, keepdim=True) @ value)
        x = x + affine(torch.cat(heads, -1), f"h.{layer}.attn.c_proj")
        y = affine(norm(x, f"h.{layer}.ln_2"), f"h.{layer}.mlp.c_fc")
        y = 0.5 * y * (1 + (math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)).tanh())
        x = x + affine(y, f"h.{layer}.mlp.c_proj")
    return norm(x, "ln_f") @ state["wte.weight"].T


def assert_is_the_reference(model, tokens):
    """Logits and the gradients of all weights."""
    state = {name: weight.detach().clone().requires_grad_() for name, weight in model.state_dict().items()}
    tables = model.pattern.key_source.tolist(), model.pattern.value_source.tolist()
    expected = reference_logits(state, model.config, *tables, tokens)
    logits = model(tokens)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
    mix = torch.randn(logits.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    names, parameters = zip(*model.named_parameters(), strict=True)
    ours = torch.autograd.grad(logits, parameters, mix)
    theirs = torch.autograd.grad(expected, [state[name] for name in names], mix)
    for name, a, b in zip(names, ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, msg=name)


@settings(max_examples=60, deadline=None)
@given(models(), st.integers(1, 3), st.integers(1, 16))
def test_any_tables_give_the_reference(model, B, T):
    assert_is_the_reference(model, random_tokens(B, T))


@pytest.mark.parametrize("name", FAMILY)
def test_every_named_pattern_gives_the_reference(name):
    assert_is_the_reference(model_of(FAMILY[name]), random_tokens(2, 11))
