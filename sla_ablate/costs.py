"""What a pattern costs, from its tables and the model's shape alone."""

from __future__ import annotations

from dataclasses import dataclass

from sla_ablate.model.config import GPTConfig
from sla_ablate.patterns import SkipPattern

CACHE_BYTES_PER_NUMBER = 2
"""KV-cache bytes are those of a half-precision cache."""


@dataclass(frozen=True)
class Costs:
    """Costs of a model under a pattern; FLOPs count a multiplication and an addition as two."""

    parameters: int
    forward_flops_per_token: float
    """Matrix products of a whole context of block_size tokens, per token; a query sees the keys up to its own."""
    training_flops_per_token: float
    """Forward and backward: three times the forward pass."""
    kv_cache_bytes_per_token: int
    """Keys and values that some head reads, each (layer, head) once, at two bytes a number."""


def costs(config: GPTConfig, pattern: SkipPattern) -> Costs:
    """The costs of `config` under `pattern`."""
    C, L, V = config.n_embd, config.n_layer, config.vocab_size
    biases = 1 if config.bias else 0
    matrices = L * 12 * C * C
    vectors = L * (9 * biases * C + 2 * C * (1 + biases)) + C * (1 + biases)
    mean_keys = (config.block_size + 1) / 2
    forward = 2 * (matrices + V * C) + L * 2 * 2 * mean_keys * C
    read = int(pattern.keys_read.sum() + pattern.values_read.sum())
    return Costs(
        parameters=matrices + vectors + (V + config.block_size) * C,
        forward_flops_per_token=forward,
        training_flops_per_token=3 * forward,
        kv_cache_bytes_per_token=read * config.head_size * CACHE_BYTES_PER_NUMBER,
    )
