"""The shape of a GPT, in GPT-2's own names."""

from __future__ import annotations

from dataclasses import dataclass

from sla_ablate.errors import InputError


@dataclass(frozen=True)
class GPTConfig:
    """Everything but the weights and the pattern.

    Raises:
        InputError: a size is not positive, heads do not divide the width, or dropout is outside [0, 1).
    """

    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    """Width of the residual stream; each head is n_embd / n_head wide."""
    block_size: int = 1024
    """Context length in tokens (Hugging Face: n_positions)."""
    vocab_size: int = 50257
    bias: bool = True
    """Biases in linear layers and layer norms, as GPT-2 has them."""
    dropout: float = 0.0
    """Of the embedding, the attention weights and both residual branches."""

    def __post_init__(self) -> None:
        for name in ("n_layer", "n_head", "n_embd", "block_size", "vocab_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} is not possible; choose 1 or more")
        if self.n_embd % self.n_head:
            near = max(self.n_head, round(self.n_embd / self.n_head) * self.n_head)
            raise InputError(
                f"n_embd={self.n_embd} is not a multiple of n_head={self.n_head}; nearest possible width {near}"
            )
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout={self.dropout} is not possible; choose 0 or more and less than 1")

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return self.n_embd // self.n_head
