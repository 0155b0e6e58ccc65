from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sla_ablate import GPT, GPTConfig, SkipPattern
from sla_ablate.model import transformer
from sla_ablate.patterns.costs import costs

CONFIG = GPTConfig(n_layer=4, n_head=3, n_embd=24, block_size=32, vocab_size=70)


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"positions": "rotary"}])
def test_parameters_are_those_of_the_model(options):
    config = GPTConfig(n_layer=4, n_head=3, n_embd=24, block_size=32, vocab_size=70, **options)
    pattern = SkipPattern.skip_layer(4, 3, 2, 2)
    assert costs(config, pattern).parameters == sum(p.numel() for p in GPT(config, pattern).parameters())


def test_gpt2_has_124_million_parameters():
    config = GPTConfig()
    assert costs(config, SkipPattern.baseline(12, 12)).parameters == 124_439_808


@pytest.mark.parametrize(
    "pattern",
    [
        SkipPattern.baseline(4, 3),
        SkipPattern.skip_layer(4, 3, 2, 2),
        SkipPattern.window(4, 3, 3, 2),
        SkipPattern.cross_layer(4, 3, share="values"),
        SkipPattern.yoco(4, 3, share="keys"),
        SkipPattern.from_tables([[0] * 3] * 4),
    ],
)
def test_flops_are_the_counted_ones(monkeypatch, pattern):
    """Attention is counted dense, T keys a query, where the formula takes the (T + 1) / 2 that a query sees."""
    monkeypatch.setattr(transformer, "causal_attention", lambda q, k, v, dropout: (q @ k.transpose(-1, -2)) @ v)
    model, T = GPT(CONFIG, pattern).double(), CONFIG.block_size
    tokens = torch.zeros(1, T, dtype=torch.long)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(tokens)
    with FlopCounterMode(display=False) as training:
        model(tokens, tokens).backward()
    cost = costs(CONFIG, pattern)
    unseen_keys = CONFIG.n_layer * 2 * (T - (T + 1) / 2)  # by a query of each layer, in the two products of attention
    unseen = unseen_keys * 2 * CONFIG.n_embd
    assert forward.get_total_flops() == T * (cost.forward_flops_per_token + unseen)
    # Every product has two gradients, each of them a product as large.
    assert training.get_total_flops() == T * (cost.training_flops_per_token + 3 * unseen)


def test_keys_and_values_that_no_head_reads_cost_nothing():
    """Layers 2 and 3 leave keys and values of two heads unread: 2 * 2 * 2 heads 8 wide, 64 rows of 24 and a bias."""
    baseline, skip = costs(CONFIG, SkipPattern.baseline(4, 3)), costs(CONFIG, SkipPattern.skip_layer(4, 3, 2, 2))
    assert baseline.parameters_read == baseline.parameters == skip.parameters
    assert skip.parameters_read == baseline.parameters - 64 * 25
    assert skip.forward_flops_per_token == baseline.forward_flops_per_token - 2 * 64 * 24


@pytest.mark.parametrize(
    "pattern",
    [
        SkipPattern.window(4, 3, 3, 2),
        SkipPattern.cross_layer(4, 3, share="keys"),
        SkipPattern.yoco(4, 3, split=1, share="values"),
        SkipPattern.random(4, 3, heads=2),
    ],
)
def test_parameters_read_are_those_that_learn(pattern):
    """Without biases: a key's bias moves all scores of a query alike, so it learns nothing though it is read."""
    config = GPTConfig(n_layer=4, n_head=3, n_embd=24, block_size=32, vocab_size=70, bias=False)
    model = GPT(config, pattern).double()
    tokens = torch.randint(70, (2, 33), generator=torch.Generator().manual_seed(0))
    model(tokens[:, :-1], tokens[:, 1:]).backward()
    idle = sum(int((block.attn.c_attn.weight.grad == 0).all(dim=1).sum()) * 24 for block in model.h)
    cost = costs(config, pattern)
    assert idle > 0
    assert cost.parameters_read == cost.parameters - idle


@pytest.mark.parametrize(
    ("pattern", "read"),
    [
        (SkipPattern.baseline(4, 3), 2 * 12),
        # Layers 2 and 3 leave the keys and values of two of their own heads unread.
        (SkipPattern.skip_layer(4, 3, 2, 2), 2 * 8),
        (SkipPattern.from_tables([[0] * 3] * 4), 2 * 3),
        (SkipPattern.from_tables([[0] * 3] * 4, SkipPattern.baseline(4, 3).key_source), 3 + 12),
    ],
)
def test_cache_holds_each_read_head_once(pattern, read):
    assert costs(CONFIG, pattern).kv_cache_bytes_per_token == read * 8 * 2
