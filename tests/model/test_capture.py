"""What is captured is what the model attended to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from random_models import model_of, models, random_tokens

from sla_ablate import SkipPattern
from sla_ablate.model.capture import capture


@settings(max_examples=25, deadline=None)
@given(models())
def test_captured_calls_and_stream_give_the_models_own_results(model):
    tokens = random_tokens(2, 7)
    expected = model(tokens)
    with capture(model) as captured:
        assert torch.equal(model(tokens), expected)
    assert len(captured.calls) == model.config.n_layer
    hidden = torch.ones(7, 7, dtype=torch.bool).triu(1)
    for layer, (q, k, v, o) in enumerate(captured.calls):
        scores = q @ k.transpose(2, 3) / model.config.head_size**0.5
        explicit = scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v
        torch.testing.assert_close(o, explicit, rtol=0, atol=1e-12)
        block = model.h[layer]
        written = torch.einsum("bhtd,hdc->btc", o, captured.output_weights[layer])
        bias = 0 if block.attn.c_proj.bias is None else block.attn.c_proj.bias
        middle = captured.stream[layer] + written + bias
        after = middle + block.mlp(block.ln_2(middle))
        torch.testing.assert_close(captured.stream[layer + 1], after, rtol=0, atol=1e-10)


@settings(max_examples=25, deadline=None)
@given(models())
def test_keys_and_values_are_those_of_the_source_layer(model):
    with capture(model) as captured:
        model(random_tokens(2, 7))
    for name, table in (("keys", model.pattern.key_source), ("values", model.pattern.value_source)):
        for layer, h in np.argwhere(table != np.arange(len(table))[:, None]):
            source = table[layer, h]
            if table[source, h] == source:
                here, there = (getattr(captured.calls[i], name)[:, h] for i in (layer, source))
                assert torch.equal(here, there)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_in_bfloat16_and_gone_afterwards(positions):
    model = model_of(SkipPattern.window(3, 3, 2, 2), positions=positions).bfloat16()
    with pytest.raises(RuntimeError, match="stop"), capture(model) as captured:
        model(random_tokens(1, 5))
        raise RuntimeError("stop")
    assert {x.dtype for call in captured.calls for x in call} == {torch.bfloat16}
    assert not [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]
    model(random_tokens(1, 5))
    assert len(captured.calls) == 3
