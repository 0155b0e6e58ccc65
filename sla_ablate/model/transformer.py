"""GPT-2's layers, whose heads may read the keys and values of earlier layers, and the one way through them.

Shapes: B sequences, T tokens, S tokens so far (T and those before), H heads, C = n_embd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sla_ablate.errors import InputError
from sla_ablate.model.config import GPTConfig
from sla_ablate.model.cpu.attention import causal_attention
from sla_ablate.model.cpu.gelu import gelu
from sla_ablate.model.cpu.linear import Linear, linear
from sla_ablate.model.generation.cache import KVCache, Room
from sla_ablate.model.heads import KeptRows, Pieces, pieces
from sla_ablate.model.rotary import Rotations, rotate, rotations
from sla_ablate.patterns import Mask, SkipPattern

Lent = Sequence[Tensor]
"""Pieces of the keys (or of the values) of earlier layers, [B, some heads, S, head_size] each."""


class Attend(nn.Module):
    """The attention call, a module so that a forward hook sees what was really attended to: see `model.capture`."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Queries [B, H, T, head_size], keys and values [B, H, S, head_size] after rotation -> [B, H, T, head_size].

        Without a mask, T is S (the queries are of the same tokens, and see those at and before theirs) or 1.
        """
        dropout = self.dropout if self.training else 0.0
        if mask is None and q.shape[2] == k.shape[2]:
            return causal_attention(q, k, v, dropout)
        return F.scaled_dot_product_attention(q, k, v, mask, dropout)


class Attention(nn.Module):
    """Causal self-attention of one layer, each head reading the layer that the pattern names.

    Args:
        config: the model's shape.
        rows: of c_attn, those that take part.
        keys, values: how the heads' keys and values come together.
    """

    def __init__(self, config: GPTConfig, rows: KeptRows, keys: Pieces, values: Pieces) -> None:
        super().__init__()
        self.head_size = config.head_size
        self.rows = rows
        self.keys = keys
        self.values = values
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.attend = Attend(config.dropout)
        self.c_proj = Linear(config.n_embd, config.n_embd, bias=config.bias)

    def forward(
        self, x: Tensor, keys: Lent, values: Lent, rotations: Rotations | None, mask: Tensor | None, room: Room | None
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """[B, T, C] -> [B, T, C], with the keys and values that the layer lends; arguments as of `Block.forward`."""
        B, T, C = x.shape
        bias = None if self.c_attn.bias is None else self.rows.of(self.c_attn.bias)
        qkv = linear(x, self.rows.of(self.c_attn.weight), bias).view(B, T, -1, self.head_size)
        # Split before the transposition: one copy makes the gradient of all three.
        q, k, v = (part.transpose(1, 2) for part in qkv.split(self.rows.heads, dim=2))
        if rotations is not None:
            q, k = rotate(q, *rotations), rotate(k, *rotations)
        if room is not None:
            k, v = room.fill(k, v)
        own_keys, own_values = self.keys.split(k), self.values.split(v)
        y = self.attend(q, self.keys.join(keys, own_keys), self.values.join(values, own_values), mask)
        out: Tensor = self.c_proj(y.transpose(1, 2).reshape(B, T, C))
        return out, [own_keys[i] for i in self.keys.lent], [own_values[i] for i in self.values.lent]


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
    """One pre-norm decoder layer: a function of tensors, which keeps nothing."""

    def __init__(self, config: GPTConfig, attention: Attention) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.attn = attention
        self.ln_2 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)
        self.dropout = config.dropout

    def forward(
        self,
        x: Tensor,
        keys: Lent = (),
        values: Lent = (),
        rotations: Rotations | None = None,
        mask: Tensor | None = None,
        room: Room | None = None,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Apply the layer.

        Args:
            x: the residual stream, [B, T, C].
            keys, values: what the layer borrows of earlier ones, in the order of `attn.keys.borrowed` and of
                `attn.values.borrowed`.
            rotations: cosines and sines of the positions' angles, [1, T, head_size] or [B, 1, T, head_size]; None:
                the positions are in the stream.
            mask: which keys each query sees, [T, S] or [B, 1, T, S]; None: those at and before its position, where S is
                T or T is 1.
            room: where the layer's own keys and values are written to, after those of earlier tokens, to be read
                together with them; None: there are no earlier tokens.

        Returns:
            The stream after the layer, and the pieces of its keys and of its values that later layers read.
        """
        attended, keys_lent, values_lent = self.attn(self.ln_1(x), keys, values, rotations, mask, room)
        x = x + self._branch(attended, x.dtype)
        return x + self._branch(self.mlp(self.ln_2(x)), x.dtype), keys_lent, values_lent

    def _branch(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """What a branch adds to the stream, in the stream's precision: adding two kinds of numbers is slow on a CPU."""
        dropped = F.dropout(x, self.dropout, self.training) if self.dropout else x
        return dropped.to(dtype)


def _embedding(rows: int, width: int) -> nn.Embedding:
    """An embedding without values: those that PyTorch draws would be overwritten, and take seconds on `meta`."""
    embedding: nn.Embedding = nn.Embedding.from_pretrained(torch.empty(rows, width), freeze=False)
    return embedding


class Transformer(nn.Module):
    """GPT-2's layers, from tokens to final hidden states; weights have the same names and shapes under every pattern.

    Args:
        config: the model's shape.
        pattern: which layer each head reads; ordinary attention if None.
        prune: leave out keys and values that no head reads. The function is the same; their rows of c_attn stay
            parameters, with zero gradients.

    Raises:
        InputError: the pattern's table is not [n_layer, n_head].
    """

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
        self.checkpoint_activations = False
        """True if a training step keeps only what goes into each layer, and computes the rest again backwards."""
        self.is_compiled = False
        """True if the layers are compiled for training; they are evaluated as they are."""
        self.wte = _embedding(config.vocab_size, config.n_embd)
        if config.positions == "learned":
            self.wpe = _embedding(config.block_size, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)
        keys, values = pieces(pattern.key_source, self.keys_kept), pieces(pattern.value_source, self.values_kept)
        self.h = nn.ModuleList()
        for layer in range(config.n_layer):
            rows = KeptRows(self.keys_kept[layer], self.values_kept[layer], config.head_size)
            self.h.append(Block(config, Attention(config, rows, keys[layer], values[layer])))
        self.ln_f = nn.LayerNorm(config.n_embd, bias=config.bias)

    @property
    def blocks(self) -> Sequence[Block]:
        """The layers, lowest first."""
        return cast("Sequence[Block]", self.h)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.wte.weight.device

    def empty_cache(self, batch_size: int, capacity: int, padding: Tensor | None = None) -> KVCache:
        """A cache for so many sequences of up to `capacity` tokens; the first `padding[b]` of row b are no tokens."""
        kept = list(zip(self.keys_kept.sum(1).tolist(), self.values_kept.sum(1).tolist(), strict=True))
        return KVCache(kept, batch_size, capacity, self.config.head_size, self.wte.weight, padding)

    def hidden_states(self, tokens: Tensor, cache: KVCache | None = None, last_only: bool = False) -> Tensor:
        """Final hidden states of tokens, after the last layer norm.

        Args:
            tokens: [B, T]; with those in the cache at most block_size.
            cache: the keys and values of the tokens before these, to which theirs are added, without gradient.
            last_only: return those of the last token only. Layers above the last whose keys or values are read, all of
                YOCO's upper half, then compute nothing else.

        Returns:
            [B, T, C], or [B, 1, C].

        Raises:
            InputError: there are too many tokens, or one is none of the vocabulary's. (A GPU asserts that itself.)
        """
        T, past = tokens.shape[1], cache.length if cache else 0
        if self.config.block_size < past + T:
            raise InputError(f"{past + T} tokens do not fit into the block size of {self.config.block_size}")
        _check_tokens(tokens, self.config.vocab_size)
        positions = cache.positions(T) if cache else torch.arange(T, device=tokens.device)
        mask = cache.mask(T) if cache else None
        x = self.wte(tokens)
        turns: Rotations | None = None
        if self.config.positions == "learned":
            x = x + self.wpe(positions)
        else:
            cos, sin = rotations(positions, self.config.head_size, self.config.rotary_base, x.dtype)
            turns = cos.unsqueeze(-3), sin.unsqueeze(-3)
        x = self.dropout(x)
        keys: list[Lent] = []
        values: list[Lent] = []
        for layer, block in enumerate(self.blocks):
            if last_only and layer == self.top_kept + 1:
                x, turns, mask = _last(x, turns, mask)
            attn = block.attn
            x, keys_lent, values_lent = self._called(block)(
                x,
                [keys[below][i] for below, i in attn.keys.borrowed],
                [values[below][i] for below, i in attn.values.borrowed],
                turns,
                mask,
                cache.room(layer, T) if cache else None,
            )
            keys.append(keys_lent)
            values.append(values_lent)
        if cache:
            cache.length += T
        out: Tensor = self.ln_f(x[:, -1:] if last_only else x)
        return out

    def _called(self, block: Block) -> Callable[..., Any]:
        if self.checkpoint_activations and self.training and torch.is_grad_enabled():
            return partial(checkpoint, block, use_reentrant=False)
        return block


def _check_tokens(tokens: Tensor, vocab_size: int) -> None:
    if tokens.device.type != "cpu":  # reading a value would make a GPU wait
        return
    for token in map(int, tokens.aminmax()) if tokens.numel() else ():
        if not 0 <= token < vocab_size:
            raise InputError(f"token {token} is none of the vocabulary's, 0 to {vocab_size - 1}")


def _last(x: Tensor, turns: Rotations | None, mask: Tensor | None) -> tuple[Tensor, Rotations | None, Tensor | None]:
    """The stream, rotations and mask of the last token alone, which without a mask sees all tokens so far."""
    if turns is not None:
        cos, sin = turns
        turns = cos[..., -1:, :], sin[..., -1:, :]
    return x[:, -1:], turns, None if mask is None else mask[..., -1:, :]
