"""Keys and values that no head reads are left out, and nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from random_models import FAMILY, model_of, models, patterns, random_tokens

from sla_ablate import GPT, SkipPattern

YOCO = SkipPattern.from_tables([[0] * 4, [1] * 4, [1] * 4, [1] * 4])


def unpruned(model):
    twin = GPT(model.config, model.pattern, prune=False).to(model.wte.weight.dtype)
    twin.load_state_dict(model.state_dict())
    return twin


@settings(max_examples=30, deadline=None)
@given(models())
def test_outputs_and_gradients_are_the_unpruned_models(model):
    assert_pruning_changes_nothing(model)


@pytest.mark.parametrize("name", FAMILY)
def test_outputs_and_gradients_of_every_named_pattern_are_the_unpruned_models(name):
    assert_pruning_changes_nothing(model_of(FAMILY[name]))


def assert_pruning_changes_nothing(model):
    tokens = random_tokens(2, 7)
    twin = unpruned(model)
    torch.testing.assert_close(model(tokens), twin(tokens), rtol=0, atol=1e-12)
    for m in (model, twin):
        m(tokens[:, :-1], tokens[:, 1:]).backward()
    for (name, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
        if b.grad is not None or a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=0, atol=1e-12, msg=name)


def test_rows_that_nothing_reads_have_zero_gradients_and_matter_to_nothing():
    model = model_of(SkipPattern.from_tables([[0, 0], [0, 1], [1, 1]], [[0, 0], [0, 0], [2, 0]]), head_size=4)
    tokens = random_tokens(2, 6)
    before = model(tokens)
    model(tokens[:, :-1], tokens[:, 1:]).backward()
    for layer, block in enumerate(model.h):
        read = [torch.ones(2, dtype=bool), *map(torch.as_tensor, (model.pattern.keys_read[layer],
                                                                  model.pattern.values_read[layer]))]  # fmt: skip
        rows = torch.cat(read).repeat_interleave(4)
        assert block.attn.c_attn.weight.grad[rows].ne(0).any(1).all()
        assert block.attn.c_attn.weight.grad[~rows].eq(0).all()
        with torch.no_grad():
            block.attn.c_attn.weight[~rows] = torch.nan
    assert torch.equal(model(tokens), before)


def test_only_what_is_read_is_computed(monkeypatch):
    """The width of each layer's first product: queries, keys and values."""
    from sla_ablate.model import transformer

    widths = []
    linear = transformer.linear
    monkeypatch.setattr(transformer, "linear", lambda x, w, b: widths.append(len(w)) or linear(x, w, b))
    model = model_of(YOCO, head_size=2)
    model(random_tokens(1, 3))
    assert widths == [24, 24, 8, 8]
    widths.clear()
    unpruned(model)(random_tokens(1, 3))
    assert widths == [24] * 4


@pytest.mark.parametrize("pattern", [SkipPattern.baseline(4, 4), YOCO])
def test_what_all_heads_read_is_not_copied(monkeypatch, pattern):
    from sla_ablate.model import transformer

    seen = []
    attention = transformer.causal_attention
    monkeypatch.setattr(
        transformer, "causal_attention", lambda q, k, v, p: seen.append((k, v)) or attention(q, k, v, p)
    )
    model_of(pattern)(random_tokens(2, 5))
    for layer, (k, v) in enumerate(seen):
        source = seen[pattern.key_source[layer, 0]]
        assert k.data_ptr() == source[0].data_ptr()
        assert v.data_ptr() == source[1].data_ptr()


@settings(max_examples=10, deadline=None)
@given(patterns())
def test_names_shapes_and_initial_weights_are_those_of_the_baseline(pattern):
    states = []
    for p in (pattern, SkipPattern.baseline(pattern.n_layer, pattern.n_head)):
        model = model_of(p)
        model.init_weights(3)
        states.append(copy.deepcopy(model.state_dict()))
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
