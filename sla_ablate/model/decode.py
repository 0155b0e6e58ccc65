"""One more token of every sequence, in as few operations as possible.

At one token a step, calling modules and choosing kernels would take as long as reading a small model's weights. The
result is that of the model's forward pass with the same cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sla_ablate.model.cache import KVCache
from sla_ablate.model.linear import linear
from sla_ablate.model.matvec import MatVec
from sla_ablate.model.rotary import rotate, rotations

if TYPE_CHECKING:
    from sla_ablate.model.gpt import GPT, Attention, Block

Product = Callable[[Tensor], Tensor]
"""[B, in_features] -> [B, out_features]."""

FEWEST_TOKENS_TO_PACK = 32
"""Copying the weights for `MatVec` takes as long as it saves in about 15 tokens."""


class Stretch(NamedTuple):
    """Consecutive heads whose keys, and whose values, lie side by side in what one layer has cached."""

    head: int
    n_heads: int
    key_layer: int
    key: int
    value_layer: int
    value: int


class Layer(NamedTuple):
    """What one layer needs."""

    ln_1: nn.LayerNorm
    qkv: Product
    n_turned: int
    """Heads that rotary positions turn: queries and kept keys, which come first."""
    stretches: list[Stretch]
    attn_proj: Product
    ln_2: nn.LayerNorm
    up: Product
    down: Product


class Decoder:
    """Reads one token a step.

    Args:
        model: the model.
        batch_size: sequences.
        steps: about how many steps it is for; if they are worth it, it copies the weights into a faster form.
    """

    def __init__(self, model: GPT, batch_size: int, steps: int) -> None:
        weight = model.wte.weight
        pack = batch_size == 1 and steps >= FEWEST_TOKENS_TO_PACK and MatVec.is_fast(weight)

        def product(weight: Tensor, bias: Tensor | None = None) -> Product:
            return MatVec(weight, bias) if pack else lambda x: linear(x, weight, bias)

        self.model = model
        n_keys = model.keys_kept.sum(1).tolist()
        self.layers = [
            Layer(
                block.ln_1,
                product(*block.attn.qkv_parameters()),
                sum(block.attn.rows.heads[:2]),
                stretches(block.attn, n_keys),
                product(block.attn.c_proj.weight, block.attn.c_proj.bias),
                block.ln_2,
                product(block.mlp.c_fc.weight, block.mlp.c_fc.bias),
                product(block.mlp.c_proj.weight, block.mlp.c_proj.bias),
            )
            for block in cast("Iterable[Block]", model.h)
        ]
        self.output = product(weight)
        # PyTorch's attention of one query takes twice as long in bfloat16 as in float32 with the conversion.
        self.widen = weight.device.type == "cpu" and weight.dtype == torch.bfloat16

    def __call__(self, tokens: Tensor, cache: KVCache) -> Tensor:
        """Logits [B, V] after tokens [B], whose keys and values join the cache."""
        model, config = self.model, self.model.config
        B, C, d = len(tokens), config.n_embd, config.head_size
        positions, mask = cache.positions(1), cache.mask(1) if cache.padding is not None else None
        x = model.wte.weight[tokens]
        if config.positions == "learned":
            x = x + model.wpe.weight[positions].view(-1, C)
        else:
            cos, sin = rotations(positions, d, config.rotary_base, x.dtype)
            cos, sin = cos.unsqueeze(-3), sin.unsqueeze(-3)
        stored: list[Tensor] = []  # keys and values of the layers so far
        for number, layer in enumerate(self.layers):
            qkv = layer.qkv(norm(layer.ln_1, x)).view(B, -1, 1, d)
            if config.positions == "rotary":
                turned, v = qkv.tensor_split((layer.n_turned,), dim=1)
                qkv = torch.cat([rotate(turned, cos, sin), v], dim=1)
            both = cache.store(number, qkv.narrow(1, config.n_head, qkv.shape[1] - config.n_head))
            if self.widen:
                qkv, both = qkv.float(), both.float()
            stored.append(both)
            y = []
            for head, n, key_layer, key, value_layer, value in layer.stretches:
                k, v = stored[key_layer].narrow(1, key, n), stored[value_layer].narrow(1, value, n)
                y.append(F.scaled_dot_product_attention(qkv.narrow(1, head, n), k, v, mask))
            x += layer.attn_proj((y[0] if len(y) == 1 else torch.cat(y, dim=1)).view(B, C).to(x.dtype))
            x += layer.down(F.gelu(layer.up(norm(layer.ln_2, x)), approximate="tanh"))
        cache.length += 1
        return self.output(norm(model.ln_f, x))


def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
    """The layer norm, without a module's calling costs."""
    return torch.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)


def stretches(attention: Attention, n_keys: list[int]) -> list[Stretch]:
    """A layer's heads, cut where their keys or values are no longer consecutive ones of the same layer.

    In what a layer has cached the values come after its `n_keys[layer]` keys.
    """
    keys, values = attention.key_sources.places, attention.value_sources.places
    follows = [
        all(b == (a[0], a[1] + 1) for a, b in ((keys[h - 1], keys[h]), (values[h - 1], values[h])))
        for h in range(1, len(keys))
    ]
    edges = [0, *(h for h, same in enumerate(follows, 1) if not same), len(keys)]
    return [
        Stretch(a, b - a, *keys[a], value_layer := values[a][0], n_keys[value_layer] + values[a][1])
        for a, b in pairwise(edges)
    ]
