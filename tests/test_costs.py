from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sla_ablate import GPT, GPTConfig, SkipPattern
from sla_ablate.costs import costs
from sla_ablate.model import gpt

CONFIG = GPTConfig(n_layer=4, n_head=3, n_embd=24, block_size=32, vocab_size=70)


@pytest.mark.parametrize("bias", [True, False])
def test_parameters_are_those_of_the_model(bias):
    config = GPTConfig(n_layer=4, n_head=3, n_embd=24, block_size=32, vocab_size=70, bias=bias)
    pattern = SkipPattern.skip_layer(4, 3, 2, 2)
    assert costs(config, pattern).parameters == sum(p.numel() for p in GPT(config, pattern).parameters())


def test_gpt2_has_124_million_parameters():
    config = GPTConfig()
    assert costs(config, SkipPattern.baseline(12, 12)).parameters == 124_439_808


def test_forward_flops_are_the_counted_ones(monkeypatch):
    """Attention is counted dense, T keys a query, where the formula takes the (T + 1) / 2 that a query sees."""
    monkeypatch.setattr(gpt, "causal_attention", lambda q, k, v, dropout: (q @ k.transpose(-1, -2)) @ v)
    model, T = GPT(CONFIG).double(), CONFIG.block_size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, T, dtype=torch.long))
    unseen_keys = T - (T + 1) / 2
    attention = CONFIG.n_layer * 4 * CONFIG.n_embd
    formula = costs(CONFIG, model.pattern).forward_flops_per_token + attention * unseen_keys
    assert counter.get_total_flops() == formula * T


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
