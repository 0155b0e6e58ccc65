"""What a pattern costs, from its tables and the model's shape alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sla_ablate.patterns import SkipPattern


class Shape(Protocol):
    """What counts of a model's shape: a `GPTConfig` has it."""

    @property
    def n_layer(self) -> int: ...  # noqa: D102
    @property
    def n_head(self) -> int: ...  # noqa: D102
    @property
    def n_embd(self) -> int: ...  # noqa: D102
    @property
    def block_size(self) -> int: ...  # noqa: D102
    @property
    def vocab_size(self) -> int: ...  # noqa: D102
    @property
    def bias(self) -> bool: ...  # noqa: D102
    @property
    def positions(self) -> str: ...  # noqa: D102


CACHE_BYTES_PER_NUMBER = 2
"""KV-cache bytes are those of a half-precision cache."""


@dataclass(frozen=True)
class Costs:
    """Costs of a model under a pattern; FLOPs count a multiplication and an addition as two.

    Keys and values that no head reads are not computed, so their products and their rows of `c_attn` cost nothing.
    """

    parameters: int
    """All of the model's, the same for every pattern."""
    parameters_read: int
    """The parameters but for the weights and biases that compute keys and values no head reads."""
    forward_flops_per_token: float
    """Matrix products of a whole context of block_size tokens, per token; a query sees the keys up to its own."""
    training_flops_per_token: float
    """Forward and backward: three times the forward pass."""
    kv_cache_bytes_per_token: int
    """Keys and values that some head reads, each (layer, head) once, at two bytes a number."""


def n_parameters(config: Shape) -> int:
    """Parameters of a model; the output layer's are the token embeddings."""
    C, L = config.n_embd, config.n_layer
    biases = int(config.bias)
    vectors = L * (9 * biases * C + 2 * C * (1 + biases)) + C * (1 + biases)
    positions = config.block_size if config.positions == "learned" else 0
    return _in_matrices(config) + vectors + (config.vocab_size + positions) * C


def _in_matrices(config: Shape) -> int:
    """Weights of the layers' linear maps: 4 C² of attention and 8 C² of the MLP each."""
    return config.n_layer * 12 * config.n_embd**2


def costs(config: Shape, pattern: SkipPattern) -> Costs:
    """The costs of `config` under `pattern`."""
    C, L, V = config.n_embd, config.n_layer, config.vocab_size
    parameters = n_parameters(config)
    read = int(pattern.keys_read.sum() + pattern.values_read.sum()) * (C // config.n_head)
    unread = L * 2 * C - read  # rows of c_attn, each C wide
    mean_keys = (config.block_size + 1) / 2
    forward = 2 * (_in_matrices(config) - unread * C + V * C) + L * 2 * 2 * mean_keys * C
    return Costs(
        parameters=parameters,
        parameters_read=parameters - unread * (C + config.bias),
        forward_flops_per_token=forward,
        training_flops_per_token=3 * forward,
        kv_cache_bytes_per_token=read * CACHE_BYTES_PER_NUMBER,
    )
