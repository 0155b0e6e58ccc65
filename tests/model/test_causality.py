"""No token sees a later one: for any pattern and every named one, in training, evaluation and cached decoding."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from random_models import FAMILY, model_of, models, random_tokens

PROPERTY = settings(max_examples=30, deadline=None)
sizes = st.tuples(st.integers(1, 3), st.integers(2, 12))  # B, T


def changed_at(tokens, t):
    other = tokens.clone()
    other[:, t] = (other[:, t] + 1) % 11
    return other


@PROPERTY
@given(models(), sizes, st.data(), st.booleans())
def test_a_token_changes_its_own_and_later_logits_only(model, size, data, training):
    tokens = random_tokens(*size)
    t = data.draw(st.integers(0, size[1] - 1))
    model.train(training)
    before, after = model(tokens), model(changed_at(tokens, t))
    torch.testing.assert_close(before[:, :t], after[:, :t], rtol=0, atol=1e-12)
    assert (before[:, t] != after[:, t]).any()


@PROPERTY
@given(models(), sizes, st.data())
def test_no_gradient_reaches_later_tokens(model, size, data):
    assert_gradients_stop_at(model.train(), random_tokens(*size), [data.draw(st.integers(0, size[1] - 1))])


def assert_gradients_stop_at(model, tokens, times):
    embedded = []
    model.wte.register_forward_hook(lambda module, inputs, out: embedded.append(out))
    logits = model(tokens)
    for t in times:
        (gradient,) = torch.autograd.grad(logits[:, t].square().sum(), embedded[0], retain_graph=True)
        assert gradient[:, t + 1 :].eq(0).all()
        assert gradient[:, t].ne(0).any(-1).all()


@PROPERTY
@given(models(), sizes, st.data())
def test_cached_chunks_do_not_see_later_tokens(model, size, data):
    """In chunks, at the ends of which a model that looked ahead would show it."""
    tokens, T = random_tokens(*size), size[1]
    t = data.draw(st.integers(0, T - 1))
    ends = [*sorted(data.draw(st.sets(st.integers(1, T - 1)))), T]
    before, after = (in_chunks(model, x, ends) for x in (tokens, changed_at(tokens, t)))
    torch.testing.assert_close(before[:, :t], after[:, :t], rtol=0, atol=1e-12)
    assert (before[:, t] != after[:, t]).any()
    torch.testing.assert_close(before, in_chunks(model, tokens, range(1, T + 1)), rtol=0, atol=1e-10)


@torch.no_grad()
def in_chunks(model, tokens, ends):
    cache = model.empty_cache(*tokens.shape)
    starts = [0, *ends][:-1]
    return torch.cat([model(tokens[:, a:b], cache=cache) for a, b in zip(starts, ends, strict=True)], dim=1)


@pytest.mark.parametrize("name", FAMILY)
def test_no_named_pattern_looks_ahead(name):
    T = 6
    model = model_of(FAMILY[name])
    tokens = random_tokens(1, T)
    # Row t has another token t than the last row.
    rows = torch.cat([*(changed_at(tokens, t) for t in range(T)), tokens])
    with torch.no_grad():
        readings = {
            "evaluation": model(rows),
            "chunks": in_chunks(model, rows, [2, 3, T]),
            "steps": in_chunks(model, rows, range(1, T + 1)),
        }
    for reading, logits in readings.items():
        moved = (logits[:T] - logits[T]).abs().amax(-1) > 1e-12
        assert moved.equal(torch.ones(T, T, dtype=torch.bool).triu()), reading


@pytest.mark.parametrize("name", FAMILY)
def test_no_named_pattern_learns_from_later_tokens(name):
    """With dropout, which has a kernel of its own."""
    torch.manual_seed(0)
    model = model_of(FAMILY[name], dropout=0.2)
    assert_gradients_stop_at(model.train(), random_tokens(1, 5), range(5))
