"""Hugging Face GPT-2 weights: their names and Conv1D layout on one side, this package's GPT on the other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sla_ablate.errors import InputError
from sla_ablate.model.config import GPTConfig
from sla_ablate.model.formats.weights import Model, with_weights
from sla_ablate.model.transformer import Transformer
from sla_ablate.patterns import SkipPattern

CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
"""Stored as [in, out] by GPT-2, as [out, in] by nn.Linear."""
NOT_WEIGHTS = (".attn.bias", ".attn.masked_bias", "lm_head.weight")
"""Causal masks that old checkpoints carry, and the output layer that is tied to wte."""
OURS = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}
"""What this model computes where GPT-2's configuration has a choice; GPT-2's defaults are among it."""


def load(cls: type[Model], weights: Mapping[str, Any] | str | Path, pattern: SkipPattern | None = None) -> Model:
    """Build a GPT from weights under GPT-2's names, with or without `transformer.`.

    Args:
        cls: the model class.
        weights: a dict of tensors or arrays, a `.safetensors` file, or a folder that holds `model.safetensors`.
        pattern: its n_head counts; without one, the `config.json` of the folder tells n_head, else heads are
            64 wide. All other sizes are read off the shapes, and the dtype off the weights.

    Raises:
        InputError: a weight is missing, unknown or of the wrong shape, there is no such file, or n_head cannot be
            known or is another in `config.json`; the message names it.
    """
    n_head = pattern.n_head if pattern else None
    if isinstance(weights, str | Path):
        weights, configured = _read(Path(weights))
        if pattern and configured not in (None, n_head):
            raise InputError(f"the pattern has {n_head} heads a layer, config.json n_head={configured}")
        n_head = n_head or configured
    tensors = {
        name.removeprefix("transformer."): torch.as_tensor(value)
        for name, value in weights.items()
        if not name.endswith(NOT_WEIGHTS)
    }
    for name in ("wte.weight", "wpe.weight"):
        if name not in tensors:
            raise InputError(f"the weights have no {name!r}, so they are not a GPT-2's")
    output = weights.get("lm_head.weight")
    if output is not None and not torch.equal(torch.as_tensor(output), tensors["wte.weight"]):
        raise InputError("'lm_head.weight' differs from 'wte.weight'; only a tied output layer can be loaded")
    (vocab_size, n_embd), block_size = tensors["wte.weight"].shape, len(tensors["wpe.weight"])
    if n_head is None:
        n_head, rest = divmod(n_embd, 64)
        if rest:
            raise InputError(
                f"n_embd={n_embd} is not made of heads 64 wide; give a pattern, or a folder with config.json"
            )
    config = GPTConfig(
        n_layer=len({name.split(".")[1] for name in tensors if name.startswith("h.")}),
        n_head=n_head,
        n_embd=n_embd,
        block_size=block_size,
        vocab_size=vocab_size,
        bias="ln_f.bias" in tensors,
    )
    ours = {name: tensor.T if name.endswith(CONV1D) else tensor for name, tensor in tensors.items()}
    return with_weights(cls, config, pattern, ours)


def dump(model: Transformer) -> dict[str, Tensor]:
    """A copy of the weights as `GPT2LMHeadModel.load_state_dict` takes them, the tied output layer included.

    The pattern is no part of them. Where the model has no biases, GPT-2's are 0.

    Raises:
        InputError: the model has rotary positions, which GPT-2 has not.
    """
    if model.config.positions != "learned":
        raise InputError(f"positions={model.config.positions} has no counterpart in GPT-2, which learns its positions")
    state = {}
    for name, tensor in model.state_dict().items():
        gpt2s = tensor.T if name.endswith(CONV1D) else tensor
        state[f"transformer.{name}"] = gpt2s.clone(memory_format=torch.contiguous_format)
    if not model.config.bias:
        for name in [name for name in state if not name.endswith(("wte.weight", "wpe.weight"))]:
            state[name.removesuffix("weight") + "bias"] = state[name].new_zeros(state[name].shape[-1])
    return state | {"lm_head.weight": model.wte.weight.detach().clone()}


def _read(path: Path) -> tuple[dict[str, Tensor], int | None]:
    """The tensors of a file or folder, and n_head where a config.json stands beside them."""
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"{file} does not exist; give a .safetensors file or a folder with model.safetensors")
    config = file.with_name("config.json")
    try:
        n_head = _n_head(json.loads(config.read_text(encoding="utf-8"))) if config.is_file() else None
    except (AttributeError, ValueError) as error:
        raise InputError(f"{config} is no configuration of a GPT-2: {error}") from None
    try:
        return load_file(file), n_head
    except SafetensorError as error:
        raise InputError(f"{file} is no safetensors file: {error}") from None


def _n_head(config: dict[str, Any]) -> int | None:
    """The number of heads in a GPT-2 configuration, if it tells."""
    for name, possible in OURS.items():
        if config.get(name, possible[0]) not in possible:
            raise InputError(f"config.json: {name}={config[name]} is not supported; only {possible[0]}")
    return config.get("n_head")
