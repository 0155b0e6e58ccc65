"""A model in a folder: `config.json` (shape and tables) and `model.safetensors` (weights)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from sla_ablate.errors import InputError
from sla_ablate.files import read, replace_file, sha256
from sla_ablate.model.config import GPTConfig
from sla_ablate.model.formats.weights import Model, with_weights
from sla_ablate.model.transformer import Transformer
from sla_ablate.patterns import SkipPattern
from sla_ablate.text.words import as_json

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_OF_A_RUN = "checkpoints"
"""Where a run's folder has its model."""
_DIGEST = "weights_sha256"
_MOST_BYTES = 2**24


def save(model: Transformer, folder: Path) -> None:
    """Write a model to a folder that exists, each file atomically; the configuration has the digest of the weights."""
    weights = to_bytes(model.state_dict())
    config = {
        **asdict(model.config),
        "key_source": model.pattern.key_source.tolist(),
        "value_source": model.pattern.value_source.tolist(),
        _DIGEST: hashlib.sha256(weights).hexdigest(),
    }
    replace_file(folder / CONFIG, (as_json(config, indent=1) + "\n").encode())
    replace_file(folder / WEIGHTS, weights)


def load(cls: type[Model], folder: Path) -> Model:
    """The model of a folder, in the precision of its weights; no code is run by reading it.

    Args:
        cls: the model's class.
        folder: what `save` wrote to, or the folder of a run that has one.

    Raises:
        InputError: a file is missing or broken, the weights are not those of config.json, or not finite.
    """
    if not (folder / CONFIG).exists() and (folder / _OF_A_RUN).is_dir():
        folder /= _OF_A_RUN
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} does not exist; give one that GPT.save wrote, or that of a finished run")
    try:
        config = json.loads(read(folder, CONFIG, _MOST_BYTES))
        digest = config.pop(_DIGEST, None)
        pattern = SkipPattern.from_tables(config.pop("key_source"), config.pop("value_source"))
        shape = GPTConfig(**config)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{folder / CONFIG} is not one that GPT.save wrote: {error}") from None
    path = folder / WEIGHTS
    if digest is not None and sha256(path) != digest:
        raise InputError(f"{path} and {CONFIG} beside it do not belong together; restore them")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is no safetensors file: {error}") from None
    for name, weight in weights.items():
        if not weight.isfinite().all():
            raise InputError(f"{path}: {name!r} is not finite; its training diverged")
    return with_weights(cls, shape, pattern, weights)
