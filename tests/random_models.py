"""Random patterns, shapes and tokens for property-based tests; float64 models with weights large enough to matter."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import torch

from sla_ablate import GPT, GPTConfig, SkipPattern


@st.composite
def patterns(draw, max_layers=4, max_heads=3):
    """Any pattern: independent key and value sources."""
    n_layer, n_head = draw(st.integers(1, max_layers)), draw(st.integers(1, max_heads))
    row = [st.lists(st.integers(0, layer), min_size=n_head, max_size=n_head) for layer in range(n_layer)]
    return SkipPattern.from_tables([draw(r) for r in row], [draw(r) for r in row])


@st.composite
def models(draw, **options):
    """A GPT of any pattern, both position schemes, with and without biases."""
    return model_of(
        draw(patterns()),
        positions=draw(st.sampled_from(["learned", "rotary"])),
        bias=draw(st.booleans()),
        seed=draw(st.integers(0, 99)),
        **options,
    )


def model_of(pattern, head_size=4, block_size=16, vocab_size=11, seed=0, **options):
    C = pattern.n_head * head_size
    model = GPT(GPTConfig(pattern.n_layer, pattern.n_head, C, block_size, vocab_size, **options), pattern).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5, generator=generator)
    return model.eval()


def random_tokens(B, T, vocab_size=11, seed=0):
    return torch.as_tensor(np.random.default_rng(seed).integers(vocab_size, size=(B, T)))
