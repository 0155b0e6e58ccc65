"""What identifies a run: hashes of what determines its result, and the folder that is named after them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sla_ablate.config.schema import RunConfig

SCHEMA = 3
"""A part of every run id: raised when the same configuration would give other results."""


@dataclass(frozen=True)
class Identity:
    """Hashes of what determines a run's result; never of paths, devices or logging."""

    run_id: str
    """Readable slug and hash of everything."""
    pairing: str
    """Hash of everything but the pattern: runs that share it are a pair."""
    setting: str
    """Hash of everything but the pattern and the seed: runs that share it stand in one table."""


def run_folder(config: RunConfig, identity: Identity) -> Path:
    """The folder of a run's files."""
    return Path(config.output) / config.sweep / identity.run_id


def identify(config: RunConfig, data_digest: str) -> Identity:
    """The identity of a run on data with this digest (`TokenShards.digest`)."""
    pattern = config.skip_pattern()
    setting = _setting(config, data_digest)
    tables = [pattern.key_source.tolist(), pattern.value_source.tolist()]
    digest = _digest([setting, config.seed, tables])
    return Identity(
        run_id=f"{config.pattern_slug()}-s{config.seed}-{digest[:8]}",
        pairing=_digest([setting, config.seed]),
        setting=setting_of(config, data_digest),
    )


def setting_of(config: RunConfig, data_digest: str) -> str:
    """The setting of `identify`, for which no function of the user's own is called."""
    return _digest([_setting(config, data_digest)])


def _setting(config: RunConfig, data_digest: str) -> dict[str, Any]:
    optim = asdict(config.optim)
    del optim["micro_batches"]  # which change the order of a sum, as the number of devices does
    return {
        "schema": SCHEMA,
        "data": data_digest,
        "model": asdict(config.model),
        "optim": optim,
        "evaluation": asdict(config.evaluation),
        "precision": config.trainer.precision,
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
