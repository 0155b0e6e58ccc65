"""Patterns, shapes and tokens, random and named; float64 models with weights large enough to matter."""

from __future__ import annotations

import inspect
from dataclasses import asdict

import hypothesis.strategies as st
import numpy as np
import torch

from sla_ablate import GPT, GPTConfig, SkipPattern
from sla_ablate.config.schema import PatternConfig
from sla_ablate.model.config import POSITIONS
from sla_ablate.patterns.registry import MECHANISMS
from sla_ablate.patterns.skip_pattern import PARTITIONS, PLACEMENTS, SHARES


def family(n_layer=5, n_head=4):
    """One pattern of every mechanism of the registry, with the first of each word that its constructor takes.

    The other words give other tables, and the random ones of `patterns` stand for any.
    """
    words = {"share": SHARES[0], "placement": PLACEMENTS[0], "partition": PARTITIONS[0]}
    options = PatternConfig(
        distance=2,
        heads=2,
        layer_types="_".join(str(layer - layer % 2) for layer in range(n_layer)),
        key_source=[[(3 * layer + head) % (layer + 1) for head in range(n_head)] for layer in range(n_layer)],
        value_source=[[(layer * head) % (layer + 1) for head in range(n_head)] for layer in range(n_layer)],
        **words,
    )
    patterns = {}
    for name, mechanism in MECHANISMS.items():
        taken = [word for key, word in words.items() if key in inspect.signature(mechanism.constructor).parameters]
        patterns[" ".join([name, *taken])] = mechanism.pattern(n_layer, n_head, asdict(options) | {"name": name})
    return patterns


FAMILY = family()


@st.composite
def patterns(draw, max_layers=4, max_heads=3):
    """Any pattern: independent key and value sources."""
    n_layer, n_head = draw(st.integers(1, max_layers)), draw(st.integers(1, max_heads))
    row = [st.lists(st.integers(0, layer), min_size=n_head, max_size=n_head) for layer in range(n_layer)]
    return SkipPattern.from_tables([draw(r) for r in row], [draw(r) for r in row])


@st.composite
def models(draw, **options):
    """A GPT of any pattern, both position schemes, with and without biases."""
    positions = draw(st.sampled_from(POSITIONS))
    return model_of(
        draw(patterns()),
        head_size=draw(st.sampled_from([4, 6] if positions == "rotary" else [4, 5])),
        positions=positions,
        rotary_base=draw(st.sampled_from([20.0, 10000.0])),
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
