"""A model in a folder: `config.json` (shape and tables) and `model.safetensors` (weights)."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from sla_ablate.errors import InputError
from sla_ablate.files import replace_file
from sla_ablate.model.config import GPTConfig
from sla_ablate.model.formats.weights import Model, with_weights
from sla_ablate.model.transformer import Transformer
from sla_ablate.patterns import SkipPattern
from sla_ablate.text.words import as_json


def save(model: Transformer, folder: Path) -> None:
    """Write a model to a folder that exists, each file atomically."""
    config = {
        **asdict(model.config),
        "key_source": model.pattern.key_source.tolist(),
        "value_source": model.pattern.value_source.tolist(),
    }
    replace_file(folder / "config.json", (as_json(config, indent=1) + "\n").encode())
    replace_file(folder / "model.safetensors", to_bytes(model.state_dict()))


def load(cls: type[Model], folder: Path) -> Model:
    """The model of a folder, in the precision of its weights; no code is run by reading it.

    Raises:
        InputError: a file is missing or broken, the weights are not those of config.json, or not finite.
    """
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} does not exist; give a folder that GPT.save wrote")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        pattern = SkipPattern.from_tables(config.pop("key_source"), config.pop("value_source"))
        shape = GPTConfig(**config)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / 'config.json'} is not one that GPT.save wrote: {error}") from None
    try:
        weights = load_file(folder / "model.safetensors")
    except SafetensorError as error:
        raise InputError(f"{folder / 'model.safetensors'} is no safetensors file: {error}") from None
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise InputError(f"{folder / 'model.safetensors'}: {name!r} is not finite; its training diverged")
    return with_weights(cls, shape, pattern, weights)
