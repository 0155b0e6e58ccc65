"""Weights that were read, put into a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from sla_ablate.errors import InputError
from sla_ablate.model.config import GPTConfig
from sla_ablate.model.transformer import Transformer
from sla_ablate.patterns import SkipPattern

Model = TypeVar("Model", bound=Transformer)


def with_weights(
    cls: type[Model], config: GPTConfig, pattern: SkipPattern | None, weights: Mapping[str, Tensor]
) -> Model:
    """A model with copies of these tensors, all in the precision of the token embeddings.

    Raises:
        InputError: a weight is missing, unknown or of another shape; the message names the first.
    """
    _check_size(config, weights)
    with torch.device("meta"):  # no weights of its own, no random numbers drawn
        model = cls(config, pattern)
    expected = model.state_dict()
    for name in sorted(weights.keys() | expected.keys()):
        if name not in weights:
            raise InputError(f"the weights have no {name!r}")
        if name not in expected:
            raise InputError(f"{name!r} is no weight of the model")
        if weights[name].shape != expected[name].shape:
            raise InputError(
                f"{name!r} is {tuple(weights[name].shape)} but the model needs {tuple(expected[name].shape)}"
            )
    dtype = weights["wte.weight"].dtype
    # A file's tensors are pages of the file, at addresses that the length of its header happens to give.
    copies = {
        name: tensor.to(dtype, copy=True, memory_format=torch.contiguous_format) for name, tensor in weights.items()
    }
    model.load_state_dict(copies, assign=True)
    return model


def _check_size(config: GPTConfig, weights: Mapping[str, Tensor]) -> None:
    """Refuse a size that the weights do not have before a model of it, which may be huge, is made."""
    layers = {name.split(".")[1] for name in weights if name.startswith("h.")}
    if config.n_layer > len(layers):
        raise InputError(f"the weights have {len(layers)} layers but the model needs {config.n_layer}")
    embeddings = weights.get("wte.weight")
    if embeddings is not None and embeddings.shape != (config.vocab_size, config.n_embd):
        raise InputError(
            f"'wte.weight' is {tuple(embeddings.shape)} but the model needs {(config.vocab_size, config.n_embd)}"
        )
