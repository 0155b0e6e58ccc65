"""GPT-2's decoder whose heads may read the keys and values of earlier layers.

Shapes: B sequences, T tokens, H heads, C = n_embd, V = vocab_size.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sla_ablate.errors import InputError
from sla_ablate.model.config import GPTConfig
from sla_ablate.model.cpu.attention import causal_attention
from sla_ablate.model.cpu.gelu import gelu
from sla_ablate.model.cpu.linear import Linear, linear
from sla_ablate.model.generation import generate as generation
from sla_ablate.model.generation.cache import KVCache
from sla_ablate.model.heads import Heads, KeptRows, Sources
from sla_ablate.model.loss import mean_nll, token_nll
from sla_ablate.model.rotary import rotate, rotations
from sla_ablate.patterns import SkipPattern
from sla_ablate.patterns.skip_pattern import Mask


class Context:
    """What the layers of one forward pass share. No dataclass: FSDP would hand every layer a copy of one."""

    def __init__(self, mask: Tensor | None, cache: KVCache | None) -> None:
        self.rotations: tuple[Tensor, Tensor] | None = None
        """Cosines and sines of the positions' angles, [T, head_size] or [B, 1, T, head_size]; None: learned."""
        self.mask = mask
        """Which keys each query sees, [T, S] or [B, 1, T, S]; None: those at and before its position."""
        self.cache = cache
        self.keys: list[Heads] = []
        """Of the layers so far."""
        self.values: list[Heads] = []

    def keep_last(self, length: int) -> None:
        """From here on there is only the last of the tokens, which sees all `length` so far."""
        if self.rotations:
            cos, sin = self.rotations
            self.rotations = cos[..., -1:, :], sin[..., -1:, :]
        seen = torch.ones(1, length, dtype=torch.bool, device=self.keys[0].stacked.device)
        self.mask = seen if self.mask is None else self.mask[..., -1:, :]


class Attend(nn.Module):
    """The attention call, a module so that a forward hook sees what was really attended to: see `model.capture`."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Queries, keys and values [B, H, T, head_size], after rotation -> [B, H, T, head_size]."""
        dropout = self.dropout if self.training else 0.0
        if mask is None:
            return causal_attention(q, k, v, dropout)
        return F.scaled_dot_product_attention(q, k, v, mask, dropout)


class Attention(nn.Module):
    """Causal self-attention of one layer, each head reading the layer that the pattern names."""

    def __init__(self, config: GPTConfig, layer: int, pattern: SkipPattern, keys_kept: Mask, values_kept: Mask) -> None:
        super().__init__()
        self.layer = layer
        self.head_size = config.head_size
        self.rows = KeptRows(keys_kept[layer], values_kept[layer], config.head_size)
        self.key_sources = Sources(pattern.key_source[layer], keys_kept)
        self.value_sources = Sources(pattern.value_source[layer], values_kept)
        self.keys_shared = Sources.shared(pattern.key_source, layer)
        self.values_shared = Sources.shared(pattern.value_source, layer)
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.attend = Attend(config.dropout)
        self.c_proj = Linear(config.n_embd, config.n_embd, bias=config.bias)

    def qkv_parameters(self) -> tuple[Tensor, Tensor | None]:
        """The weight and bias of the queries, keys and values that are computed."""
        bias = self.c_attn.bias
        return self.rows.of(self.c_attn.weight), None if bias is None else self.rows.of(bias)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """[B, T, C] -> [B, T, C]; adds this layer's own keys and values to the context."""
        B, T, C = x.shape
        qkv = linear(x, *self.qkv_parameters()).view(B, T, -1, self.head_size)
        # Split before the transposition: one copy makes the gradient of all three.
        q, k, v = (part.transpose(1, 2) for part in qkv.split(self.rows.heads, dim=2))
        if context.rotations:
            q, k = rotate(q, *context.rotations), rotate(k, *context.rotations)
        if context.cache:
            k, v = context.cache.store(self.layer, torch.cat([k, v], dim=1)).split(self.rows.heads[1:], dim=1)
        # One copy for all layers that read them, rather than one for each in its attention call.
        k = k.contiguous() if self.keys_shared else k
        v = v.contiguous() if self.values_shared else v
        context.keys.append(Heads.of(k))
        context.values.append(Heads.of(v))
        k, v = self.key_sources.read(context.keys), self.value_sources.read(context.values)
        y = self.attend(q, k, v, context.mask)  # [B, H, T, head_size]
        out: Tensor = self.c_proj(y.transpose(1, 2).reshape(B, T, C))
        return out


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

    def __init__(self, config: GPTConfig, attention: Attention) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.attn = attention
        self.ln_2 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """[B, T, C] -> [B, T, C]; see `Attention.forward` for the context."""
        x = x + self.dropout(self.attn(self.ln_1(x), context))
        out: Tensor = x + self.dropout(self.mlp(self.ln_2(x)))
        return out


class GPT(nn.Module):
    """A GPT-2 decoder under a skip pattern; its weights have the same shapes under every pattern.

    Args:
        config: the model's shape.
        pattern: which layer each head reads; ordinary attention if None.
        prune: leave out keys and values that no head reads. The function is the same; their rows of c_attn stay
            parameters, with zero gradients.

    Raises:
        InputError: the pattern's table is not [n_layer, n_head].
    """

    generate = generation.generate

    def __init__(self, config: GPTConfig, pattern: SkipPattern | None = None, prune: bool = True) -> None:
        super().__init__()
        pattern = pattern or SkipPattern.baseline(config.n_layer, config.n_head)
        if pattern.key_source.shape != (config.n_layer, config.n_head):
            raise InputError(
                f"the pattern is for {pattern.n_layer} layers × {pattern.n_head} heads, "
                f"the model has {config.n_layer} × {config.n_head}"
            )
        self.config = config
        self.pattern = pattern
        everything = np.ones_like(pattern.keys_read)
        self.keys_kept: Mask = pattern.keys_read if prune else everything
        self.values_kept: Mask = pattern.values_read if prune else everything
        self.top_kept = int(np.flatnonzero((self.keys_kept | self.values_kept).any(1)).max())
        """The last layer that keeps some of its keys or values."""
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        if config.positions == "learned":
            self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(
            Block(config, Attention(config, layer, pattern, self.keys_kept, self.values_kept))
            for layer in range(config.n_layer)
        )
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

    def hidden_states(self, tokens: Tensor, cache: KVCache | None = None, last_only: bool = False) -> Tensor:
        """Final hidden states [B, T, C] of tokens [B, T], after the last layer norm; see `forward` for the cache.

        With `last_only` those of the last token, [B, 1, C]; layers above the last whose keys or values are read, all
        of YOCO's upper half, then compute nothing else.
        """
        T, past = tokens.shape[1], cache.length if cache else 0
        if self.config.block_size < past + T:
            raise InputError(f"{past + T} tokens do not fit into the block size of {self.config.block_size}")
        positions = cache.positions(T) if cache else torch.arange(T, device=tokens.device)
        context = Context(cache.mask(T) if cache else None, cache)
        x = self.wte(tokens)
        if self.config.positions == "learned":
            x = x + self.wpe(positions)
        else:
            cos, sin = rotations(positions, self.config.head_size, self.config.rotary_base, x.dtype)
            context.rotations = cos.unsqueeze(-3), sin.unsqueeze(-3)
        x = self.dropout(x)
        for layer, block in enumerate(self.h):
            if last_only and layer == self.top_kept + 1:
                x = x[:, -1:]
                context.keep_last(T + past)
            x = block(x, context)
        if last_only:
            x = x[:, -1:]
        if cache:
            cache.length += T
        out: Tensor = self.ln_f(x)
        return out

    def forward(
        self,
        tokens: Tensor,
        targets: Tensor | None = None,
        label_smoothing: float = 0.0,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Logits, or with targets their mean negative log-likelihood.

        Args:
            tokens: [B, T], T at most block_size.
            targets: [B, T]; -100 counts for nothing.
            label_smoothing: see `mean_nll`.
            cache: what the model has read before these tokens; they are added to it, without gradient.

        Returns:
            [B, T, V], or a scalar in nats per token.
        """
        hidden = self.hidden_states(tokens, cache)
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
        """A GPT with weights under Hugging Face's GPT-2 names; see `sla_ablate.model.formats.gpt2.load`."""
        from sla_ablate.model.formats import gpt2

        return gpt2.load(cls, weights, pattern)

    def to_gpt2(self) -> dict[str, Tensor]:
        """A copy of the weights under Hugging Face's GPT-2 names; see `sla_ablate.model.formats.gpt2.dump`."""
        from sla_ablate.model.formats import gpt2

        return gpt2.dump(self)

    def save(self, folder: str | Path) -> None:
        """Write the model to a folder; see `sla_ablate.model.formats.checkpoint.save`."""
        from sla_ablate.model.formats import checkpoint

        checkpoint.save(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> GPT:
        """The model that `save` wrote to a folder."""
        from sla_ablate.model.formats import checkpoint

        return checkpoint.load(cls, Path(folder))
