"""One more token of every sequence, in few operations.

At one token a step, calling modules takes longer than what they compute. The result is that of the model's forward
pass with the same cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sla_ablate.model.cpu.linear import linear
from sla_ablate.model.generation.cache import KVCache, slots_read
from sla_ablate.model.rotary import rotate, rotations

if TYPE_CHECKING:
    from sla_ablate.model.transformer import GPT, Block


class Stretch(NamedTuple):
    """Consecutive heads whose keys, and whose values, are in consecutive slots of the cache."""

    head: int
    n_heads: int
    key: int
    value: int


class Layer(NamedTuple):
    """What one layer needs."""

    block: Block
    qkv: tuple[Tensor, Tensor | None]
    n_turned: int
    """Heads that rotary positions turn: queries and kept keys, which come first."""
    stretches: list[Stretch]


class Decoder:
    """Reads one token a step of each sequence of a batch."""

    def __init__(self, model: GPT) -> None:
        self.model = model
        self.layers = [
            Layer(block, block.attn.qkv_parameters(), sum(block.attn.rows.heads[:2]), stretches(*slots))
            for block, slots in zip(cast("Iterable[Block]", model.h), slots_read(model), strict=True)
        ]
        weight = model.wte.weight
        # PyTorch's attention of one query takes twice as long in bfloat16 as in float32 with the conversion.
        self.widen = weight.device.type == "cpu" and weight.dtype == torch.bfloat16

    def __call__(self, tokens: Tensor, cache: KVCache) -> Tensor:
        """Logits [B, V] after tokens [B], whose keys and values join the cache.

        Raises:
            InputError: the cache is full.
        """
        cache.check_room(1)
        model, config = self.model, self.model.config
        B, C, H, d = len(tokens), config.n_embd, config.n_head, config.head_size
        positions, mask = cache.positions(1), cache.mask(1) if cache.padding is not None else None
        x = model.wte.weight[tokens]
        if config.positions == "learned":
            x = x + model.wpe.weight[positions].view(-1, C)
        else:
            cos, sin = rotations(positions, d, config.rotary_base, x.dtype)
            cos, sin = cos.unsqueeze(-3), sin.unsqueeze(-3)
        so_far = cache.slots.narrow(2, 0, cache.length + 1)
        for number, (block, parameters, n_turned, stretches) in enumerate(self.layers):
            qkv = linear(norm(block.ln_1, x), *parameters).view(B, -1, 1, d)
            if config.positions == "rotary":
                turned, v = qkv.tensor_split((n_turned,), dim=1)
                qkv = torch.cat([rotate(turned, cos, sin), v], dim=1)
            cache.store(number, qkv.narrow(1, H, qkv.shape[1] - H))
            q = qkv.float() if self.widen else qkv
            y = []
            for head, n, key, value in stretches:
                k, v = so_far.narrow(1, key, n).to(q.dtype), so_far.narrow(1, value, n).to(q.dtype)
                y.append(F.scaled_dot_product_attention(q.narrow(1, head, n), k, v, mask))
            heads = (y[0] if len(y) == 1 else torch.cat(y, dim=1)).view(B, C).to(x.dtype)
            mlp = block.mlp
            x += linear(heads, block.attn.c_proj.weight, block.attn.c_proj.bias)
            up = linear(norm(block.ln_2, x), mlp.c_fc.weight, mlp.c_fc.bias)
            x += linear(F.gelu(up, approximate="tanh"), mlp.c_proj.weight, mlp.c_proj.bias)
        cache.length += 1
        return linear(norm(model.ln_f, x), model.wte.weight)


def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    """The layer norm, without a module's calling costs."""
    return torch.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)


def stretches(keys: list[int], values: list[int]) -> list[Stretch]:
    """A layer's heads, cut where the slots of their keys or of their values are not consecutive."""
    heads = range(1, len(keys))
    cuts = [h for h in heads if (keys[h] - keys[h - 1], values[h] - values[h - 1]) != (1, 1)]
    return [Stretch(a, b - a, keys[a], values[a]) for a, b in pairwise([0, *cuts, len(keys)])]
