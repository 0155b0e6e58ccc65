"""The KV cache: each key and value that some head reads, stored once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from sla_ablate.errors import InputError

if TYPE_CHECKING:
    from sla_ablate.model.transformer import GPT, Block


class KVCache:
    """Keys and values of the tokens that a model has read so far.

    Args:
        model: whose keys and values; its weights tell dtype and device.
        batch_size: sequences.
        capacity: tokens it can hold.
        padding: how many tokens at the start of each sequence are no tokens, [B]; None: none anywhere.
    """

    def __init__(self, model: GPT, batch_size: int, capacity: int, padding: Tensor | None = None) -> None:
        self.length = 0
        """Tokens read so far, padding included."""
        self.capacity = capacity
        self.padding = padding
        kept = (model.keys_kept.sum(1) + model.values_kept.sum(1)).tolist()
        self.slots = model.wte.weight.new_empty(batch_size, sum(kept), capacity, model.config.head_size)
        """[B, slots, capacity, head_size]: layer by layer its kept keys, then its kept values."""
        # Keys and values side by side, so that a token's are stored by one copy.
        self._layers: tuple[Tensor, ...] = torch.split(self.slots, kept, dim=1)

    @property
    def nbytes(self) -> int:
        """Bytes of all keys and values."""
        return self.slots.nbytes

    def check_room(self, T: int) -> None:
        """Raise an InputError if the next T tokens do not fit."""
        if self.length + T > self.capacity:
            raise InputError(f"{self.length + T} tokens do not fit into a KV cache for {self.capacity}")

    def store(self, layer: int, keys_and_values: Tensor) -> Tensor:
        """Add a layer's keys and values of the next T tokens, [B, kept keys + kept values, T, head_size].

        Returns all of them so far, [B, kept keys + kept values, length, head_size], without gradient.

        Raises:
            InputError: they do not fit.
        """
        T = keys_and_values.shape[2]
        self.check_room(T)
        # `narrow`, since an index calls several operations: much of a decoding step, whose tensors are small.
        self._layers[layer].narrow(2, self.length, T).copy_(keys_and_values.detach())
        so_far = self._layers[layer].narrow(2, 0, self.length + T)
        return so_far.to(keys_and_values.dtype)  # another one under autocast

    def positions(self, T: int) -> Tensor:
        """Positions of the next T tokens: [T], or [B, T] with padding."""
        positions = torch.arange(self.length, self.length + T, device=self.slots.device)
        return positions if self.padding is None else (positions - self.padding[:, None]).clamp(min=0)

    def mask(self, T: int) -> Tensor | None:
        """Which of the tokens so far the next T see, [T, length + T] or [B, 1, T, length + T].

        None if those are the first tokens, without padding, of which each sees itself and all before it.
        """
        if self.length == 0 and self.padding is None:
            return None
        key = torch.arange(self.length + T, device=self.slots.device)
        own = key[self.length :, None]
        if self.padding is None:
            return key <= own
        # Padding sees itself, lest a softmax over nothing make NaNs that reach the others as 0 · NaN.
        return ((key <= own) & (key >= self.padding[:, None, None, None])) | (key == own)


def slots_read(model: GPT) -> list[tuple[list[int], list[int]]]:
    """The slots of a KV cache in which the heads of each layer find their keys and their values: two of [n_head]."""
    n_keys, n_values = model.keys_kept.sum(1), model.values_kept.sum(1)
    first_key = (n_keys + n_values).cumsum() - n_keys - n_values
    first_value = first_key + n_keys
    return [
        (
            [int(first_key[layer]) + place for layer, place in block.attn.key_sources.places],
            [int(first_value[layer]) + place for layer, place in block.attn.value_sources.places],
        )
        for block in cast("Iterable[Block]", model.h)
    ]
