"""The KV cache: each key and value that some head reads, stored once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sla_ablate.errors import InputError


@dataclass(frozen=True)
class Room:
    """One layer's keys and values of the tokens so far, with room for those of the next T at the end."""

    keys: Tensor
    """[B, kept keys, S, head_size]"""
    values: Tensor
    """[B, kept values, S, head_size]"""

    def fill(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write those of the next T tokens, [B, kept, T, head_size] each; returns those of all, without gradient."""
        return _written(self.keys, keys), _written(self.values, values)


class KVCache:
    """The keys and values of the tokens that a model has read so far.

    Args:
        kept: how many keys and how many values each layer keeps.
        batch_size: sequences.
        capacity: tokens it can hold.
        head_size: width of a head.
        like: tells dtype and device.
        padding: how many tokens at the start of each sequence are no tokens, [B]; None: none anywhere.
    """

    def __init__(
        self,
        kept: Sequence[tuple[int, int]],
        batch_size: int,
        capacity: int,
        head_size: int,
        like: Tensor,
        padding: Tensor | None = None,
    ) -> None:
        self.length = 0
        """Tokens read so far, padding included."""
        self.capacity = capacity
        self.padding = padding
        self._device = like.device
        shapes = [[(batch_size, heads, capacity, head_size) for heads in layer] for layer in kept]
        self._layers = [[like.new_empty(shape) for shape in layer] for layer in shapes]

    @property
    def nbytes(self) -> int:
        """Bytes of all keys and values."""
        return sum(tensor.nbytes for layer in self._layers for tensor in layer)

    def room(self, layer: int, T: int) -> Room:
        """A layer's keys and values so far, with room for the next T tokens.

        Raises:
            InputError: they do not fit.
        """
        S = self.length + T
        if self.capacity < S:
            raise InputError(f"{S} tokens do not fit into a KV cache for {self.capacity}")
        return Room(*(tensor.narrow(2, 0, S) for tensor in self._layers[layer]))

    def positions(self, T: int) -> Tensor:
        """Positions of the next T tokens: [T], or [B, T] with padding."""
        positions = torch.arange(self.length, self.length + T, device=self._device)
        return positions if self.padding is None else (positions - self.padding[:, None]).clamp(min=0)

    def mask(self, T: int) -> Tensor | None:
        """Which of the tokens so far the next T see, [T, length + T] or [B, 1, T, length + T].

        None without padding if those are the first tokens, each of which sees itself and all before it, or if it is one
        token, which sees all.
        """
        if self.padding is None and (self.length == 0 or T == 1):
            return None
        key = torch.arange(self.length + T, device=self._device)
        own = key[self.length :, None]
        if self.padding is None:
            return key <= own
        # Padding sees itself, lest a softmax over nothing make NaNs that reach the others as 0 · NaN.
        return ((key <= own) & (key >= self.padding[:, None, None, None])) | (key == own)


def _written(room: Tensor, new: Tensor) -> Tensor:
    T = new.shape[2]
    room.narrow(2, room.shape[2] - T, T).copy_(new.detach())
    return room.to(new.dtype)  # another one under autocast
