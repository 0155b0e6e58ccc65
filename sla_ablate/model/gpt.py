"""GPT-2's decoder whose heads may read the keys and values of earlier layers.

Shapes: B sequences, T tokens, H heads, C = n_embd, V = vocab_size.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sla_ablate.errors import InputError
from sla_ablate.model.attention import causal_attention
from sla_ablate.model.config import GPTConfig
from sla_ablate.model.gelu import gelu
from sla_ablate.model.linear import Linear
from sla_ablate.model.loss import mean_nll, token_nll
from sla_ablate.patterns import SkipPattern

Heads = list[tuple[Tensor, ...]]
"""Keys or values of the layers so far, head by head: [B, T, head_size] each."""


class Attention(nn.Module):
    """Causal self-attention of one layer, each head reading the layer that the pattern names."""

    def __init__(self, config: GPTConfig, layer: int, pattern: SkipPattern) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.own = [layer] * config.n_head
        self.key_source: list[int] = pattern.key_source[layer].tolist()
        self.value_source: list[int] = pattern.value_source[layer].tolist()
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = Linear(config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor, keys: Heads, values: Heads) -> Tensor:
        """[B, T, C] -> [B, T, C]; appends this layer's own keys and values to those of the layers below."""
        B, T, C = x.shape
        q, k, v = self.c_attn(x).view(B, T, 3, self.n_head, C // self.n_head).permute(2, 0, 3, 1, 4).unbind()
        keys.append(k.unbind(1))
        values.append(v.unbind(1))
        if self.key_source != self.own:
            k = heads_from_layers(keys, self.key_source)
        if self.value_source != self.own:
            v = heads_from_layers(values, self.value_source)
        y = causal_attention(q, k, v, self.dropout if self.training else 0.0)  # [B, H, T, head_size]
        out: Tensor = self.c_proj(y.transpose(1, 2).reshape(B, T, C))
        return out


def heads_from_layers(layers: Heads, source: list[int]) -> Tensor:
    """Head h of layer `source[h]` for every h, [B, H, T, head_size].

    One stack of single heads is one copy whatever the table, and its backward makes nothing but views.
    """
    return torch.stack([layers[layer][head] for head, layer in enumerate(source)], dim=1)


class MLP(nn.Module):
    """The position-wise feed-forward network, four times as wide inside."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, C]."""
        out: Tensor = self.c_proj(gelu(self.c_fc(x)))
        return out


class Block(nn.Module):
    """One pre-norm decoder layer."""

    def __init__(self, config: GPTConfig, layer: int, pattern: SkipPattern) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.attn = Attention(config, layer, pattern)
        self.ln_2 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, keys: Heads, values: Heads) -> Tensor:
        """[B, T, C] -> [B, T, C]; see `Attention.forward` for keys and values."""
        x = x + self.dropout(self.attn(self.ln_1(x), keys, values))
        out: Tensor = x + self.dropout(self.mlp(self.ln_2(x)))
        return out


class GPT(nn.Module):
    """A GPT-2 decoder under a skip pattern; its weights have the same shapes under every pattern.

    Args:
        config: the model's shape.
        pattern: which layer each head reads; ordinary attention if None.

    Raises:
        InputError: the pattern's table is not [n_layer, n_head].
    """

    def __init__(self, config: GPTConfig, pattern: SkipPattern | None = None) -> None:
        super().__init__()
        pattern = pattern or SkipPattern.baseline(config.n_layer, config.n_head)
        if pattern.key_source.shape != (config.n_layer, config.n_head):
            raise InputError(
                f"the pattern is for {pattern.n_layer} layers × {pattern.n_head} heads, "
                f"the model has {config.n_layer} × {config.n_head}"
            )
        self.config = config
        self.pattern = pattern
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config, layer, pattern) for layer in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.init_weights()

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """GPT-2's initialisation: N(0, 0.02), residual projections N(0, 0.02/√(2·n_layer)), biases 0.

        Draws the same numbers under every pattern, so that one seed gives every pattern the same weights.
        """
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif ".ln_" in name or name.startswith("ln_"):
                nn.init.ones_(parameter)
            else:
                std = 0.02 / (2 * self.config.n_layer) ** 0.5 if name.endswith("c_proj.weight") else 0.02
                nn.init.normal_(parameter, std=std, generator=generator)

    def hidden_states(self, tokens: Tensor) -> Tensor:
        """Final hidden states [B, T, C] of tokens [B, T], after the last layer norm."""
        T = tokens.shape[1]
        if self.config.block_size < T:
            raise InputError(f"{T} tokens do not fit into the block size of {self.config.block_size}")
        x = self.dropout(self.wte(tokens) + self.wpe.weight[:T])
        keys: Heads = []
        values: Heads = []
        for block in self.h:
            x = block(x, keys, values)
        out: Tensor = self.ln_f(x)
        return out

    def forward(self, tokens: Tensor, targets: Tensor | None = None, label_smoothing: float = 0.0) -> Tensor:
        """Logits, or with targets their mean negative log-likelihood.

        Args:
            tokens: [B, T], T at most block_size.
            targets: [B, T]; -100 counts for nothing.
            label_smoothing: see `mean_nll`.

        Returns:
            [B, T, V], or a scalar in nats per token.
        """
        hidden = self.hidden_states(tokens)
        if targets is None:
            return F.linear(hidden, self.wte.weight)
        return mean_nll(*self._output_layer(hidden), targets.flatten(), label_smoothing)

    @torch.no_grad()
    def nll(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Negative log-likelihood of every target, [B, T] in nats; 0 where the target is -100."""
        return token_nll(*self._output_layer(self.hidden_states(tokens)), targets.flatten()).view(targets.shape)

    def _output_layer(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states as [B·T, C] and the tied output layer, in the precision that autocast asks for."""
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.wte.weight.dtype
        return hidden.flatten(0, 1).to(dtype), self.wte.weight.to(dtype)

    @classmethod
    def from_gpt2(cls, weights: Mapping[str, Any] | str | Path, pattern: SkipPattern | None = None) -> GPT:
        """A GPT with weights under Hugging Face's GPT-2 names; see `sla_ablate.model.gpt2.load`."""
        from sla_ablate.model import gpt2

        return gpt2.load(cls, weights, pattern)
