"""One more token of one sequence on a CPU, as fast as its memory can be read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sla_ablate.model import kernels
from sla_ablate.model.generation.cache import KVCache, slots_read
from sla_ablate.model.rotary import rotations

if TYPE_CHECKING:
    from sla_ablate.model.transformer import GPT, Block

DTYPES = (torch.float32, torch.float64, torch.bfloat16)


class Layer(NamedTuple):
    """What one layer needs."""

    eps: float
    n_turned: int
    """Heads that rotary positions turn: queries and kept keys, which come first."""
    first_slot: int
    """In the cache, of this layer's kept keys and values."""
    keys: npt.NDArray[np.int64]
    values: npt.NDArray[np.int64]
    parameters: list[kernels.Affine]
    """Of the parts of the layer in the order in which `kernels.add_layer` takes them."""


class CompiledDecoder:
    """Reads one token a step of one sequence, from the weights where they lie.

    It computes in float32 whatever is float32 or bfloat16, so in bfloat16 its logits are more exact than the model's.
    """

    def __init__(self, model: GPT) -> None:
        self.model = model
        self.dtype = np.float64 if model.wte.weight.dtype == torch.float64 else np.float32
        first_slot = 0
        self.layers = []
        for block, (keys, values) in zip(cast("Iterable[Block]", model.h), slots_read(model), strict=True):
            attn, mlp = block.attn, block.mlp
            self.layers.append(
                Layer(
                    block.ln_1.eps,
                    sum(attn.rows.heads[:2]) if model.config.positions == "rotary" else 0,
                    first_slot,
                    np.array(keys),
                    np.array(values),
                    [
                        affine(block.ln_1.weight, block.ln_1.bias),
                        affine(*attn.qkv_parameters()),
                        affine(attn.c_proj.weight, attn.c_proj.bias),
                        affine(block.ln_2.weight, block.ln_2.bias),
                        affine(mlp.c_fc.weight, mlp.c_fc.bias),
                        affine(mlp.c_proj.weight, mlp.c_proj.bias),
                    ],
                )
            )
            first_slot += sum(attn.rows.heads[1:])
        self.ln_f = affine(model.ln_f.weight, model.ln_f.bias)
        self.output = affine(model.wte.weight, None)
        config = model.config
        if config.positions == "learned":
            self.wpe = array(model.wpe.weight)
            self.cos = self.sin = np.empty((config.block_size, 0), self.dtype)
        else:
            angles = rotations(
                torch.arange(config.block_size), config.head_size, config.rotary_base, model.wte.weight.dtype
            )
            self.cos, self.sin = map(array, angles)
        threads = torch.get_num_threads()
        self.threads = min(threads, numba.config.NUMBA_NUM_THREADS)
        numba.set_num_threads(self.threads)
        torch.set_num_threads(threads)  # Numba's first call set it to the machine's, if both share an OpenMP

    @staticmethod
    def supports(like: Tensor) -> bool:
        """Whether weights of this kind can be read."""
        return like.device.type == "cpu" and like.dtype in DTYPES

    def __call__(self, tokens: Tensor, cache: KVCache) -> Tensor:
        """Logits [1, V] after tokens [1], whose keys and values join the cache.

        Raises:
            InputError: the cache is full.
        """
        cache.check_room(1)
        config, position = self.model.config, cache.length
        x = np.zeros(config.n_embd, self.dtype)
        kernels.add_row(x, self.output[0], int(tokens))
        if config.positions == "learned":
            kernels.add_row(x, self.wpe, position)
        slots = array(cache.slots[0])
        for layer in self.layers:
            kernels.add_layer(
                x,
                self.threads,
                position,
                layer.eps,
                (self.cos[position], self.sin[position], layer.n_turned),
                (slots, layer.first_slot, layer.keys, layer.values),
                *layer.parameters,
            )
        cache.length += 1
        logits = np.zeros(config.vocab_size, self.dtype)
        kernels.add_product(logits, self.output, kernels.norm(x, self.ln_f, self.model.ln_f.eps), self.threads)
        return torch.from_numpy(logits)[None]


def affine(weight: Tensor, bias: Tensor | None) -> kernels.Affine:
    """A weight and its bias, zero if there is none, as the kernels take them."""
    return array(weight), array(weight.new_zeros(len(weight)) if bias is None else bias)


def array(tensor: Tensor) -> npt.NDArray[Any]:
    """The same memory, if it is contiguous; bfloat16 as its bits."""
    tensor = tensor.detach().contiguous()
    bits = tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor
    return bits.numpy()
