"""The shape of a GPT, in GPT-2's own names."""

from __future__ import annotations

from dataclasses import dataclass

from sla_ablate.errors import InputError, unknown

POSITIONS = ("learned", "rotary")


@dataclass(frozen=True)
class GPTConfig:
    """Everything but the weights and the pattern.

    Raises:
        InputError: a size is not positive, heads do not divide the width, dropout is outside [0, 1), or the
            positions are unknown or, if rotary, the heads of odd width or the base not positive.
    """

    n_layer: int = 12
    """Layers."""
    n_head: int = 12
    """Heads of each layer."""
    n_embd: int = 768
    """Width of the residual stream; each head is n_embd / n_head wide."""
    block_size: int = 1024
    """Context length in tokens (Hugging Face: n_positions)."""
    vocab_size: int = 50257
    """Tokens, end of text included."""
    bias: bool = True
    """Biases in linear layers and layer norms, as GPT-2 has them."""
    dropout: float = 0.0
    """Probability of dropping an element of the embedding, of the attention weights and of both residual branches."""
    positions: str = "learned"
    """`learned` (GPT-2's wpe) or `rotary` (Su et al. 2021, arXiv 2104.09864), which needs no parameters."""
    rotary_base: float = 10000.0
    """The slowest pair of components of a head turns once in about 2π · rotary_base tokens."""

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
        if self.positions not in POSITIONS:
            raise unknown("positions", self.positions, POSITIONS)
        if self.positions == "rotary" and self.head_size % 2:
            raise InputError(f"rotary positions need heads of even width; n_embd / n_head is {self.head_size}")
        if not self.rotary_base > 0:
            raise InputError(f"rotary_base={self.rotary_base} is not possible; choose more than 0")

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return self.n_embd // self.n_head
