"""Run folders: what identifies a run, its record, and who may write it.

`runs/<sweep>/<run id>/` holds `config.yaml`, `record.json`, `metrics.jsonl`, `run.log` and `checkpoints/`.

The state in a record is `waiting`, `running`, `done`, `failed` or `interrupted`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from sla_ablate.config.schema import RunConfig
from sla_ablate.errors import InputError
from sla_ablate.files import write_atomically

SCHEMA = 1
"""Part of every run id: raised when the same configuration would give other results."""
CHECKPOINT = "checkpoints"
"""Folder in a run's of its checkpoints and, once it is done, its model."""

Record = dict[str, Any]

_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was built


@dataclass(frozen=True)
class Identity:
    """Hashes of what determines a run's result; never of paths, devices or logging."""

    run_id: str
    """Readable slug and hash of everything."""
    pairing: str
    """Of everything but the pattern: runs that share it are a pair."""
    setting: str
    """Of everything but the pattern and the seed: runs that share it stand in one table."""


def run_folder(config: RunConfig, identity: Identity) -> Path:
    """Where a run's files are."""
    return Path(config.output) / config.sweep / identity.run_id


def run_folders(sweep: Path) -> list[Path]:
    """The run folders of a sweep, by run id.

    Raises:
        InputError: there are none.
    """
    found = sorted(path.parent for path in sweep.glob("*/record.json"))
    if not found:
        near = sorted(path.name for path in sweep.parent.glob("*") if path.is_dir() and path != sweep)
        hint = f"; beside it there are: {', '.join(near)}" if near else ""
        raise InputError(f"{sweep} holds no runs{hint}")
    return found


def identify(config: RunConfig, data_digest: str) -> Identity:
    """The identity of a run on data with this digest (`TokenShards.digest`)."""
    pattern = config.skip_pattern()
    setting = {
        "schema": SCHEMA,
        "data": data_digest,
        "model": asdict(config.model),
        "optim": asdict(config.optim),
        "precision": config.trainer.precision,
    }
    tables = [pattern.key_source.tolist(), pattern.value_source.tolist()]
    digest = _digest([setting, config.seed, tables])
    return Identity(
        run_id=f"{config.pattern_slug()}-s{config.seed}-{digest[:8]}",
        pairing=_digest([setting, config.seed]),
        setting=_digest([setting]),
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def write_record(run: Path, record: Record) -> None:
    """Replace `record.json` of a run folder, atomically."""
    write_atomically(run / "record.json", (json.dumps(record, indent=1) + "\n").encode())


def read_record(run: Path) -> Record | None:
    """The record of a run folder, None if it has none.

    Raises:
        InputError: the record is of another schema version.
    """
    return _read_record(run, whole=True)


def read_summary(run: Path) -> Record | None:
    """A record without its results, which may be long and come last; otherwise `read_record`."""
    return _read_record(run, whole=False)


def _read_record(run: Path, whole: bool) -> Record | None:
    try:
        with (run / "record.json").open() as file:
            if whole:
                record: Record = json.load(file)
            else:
                lines = takewhile(lambda line: not line.startswith((' "results"', "}")), file)
                record = json.loads("".join(lines).rstrip().rstrip(",") + "}")
        schema = record["schema"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError):
        raise InputError(f"{run / 'record.json'} is damaged; delete the folder to have the run again") from None
    if schema != SCHEMA:
        raise InputError(f"{run / 'record.json'} is of schema {schema}; this version reads {SCHEMA}")
    return record


def read_records(sweep: Path) -> list[Record]:
    """Every record of a sweep, by run id.

    Raises:
        InputError: the folder has none.
    """
    records = [read_record(folder) for folder in run_folders(sweep)]
    return [record for record in records if record is not None]


def write_config(run: Path, config: RunConfig) -> None:
    """Replace `config.yaml` of a run folder, atomically."""
    write_atomically(run / "config.yaml", yaml.safe_dump(asdict(config), sort_keys=False).encode())


def read_config(run: Path) -> RunConfig:
    """The configuration that a run folder holds.

    Raises:
        InputError: it has none, or one that this version does not understand.
    """
    path = run / "config.yaml"
    try:
        return RunConfig.from_dict(yaml.load(path.read_text(), _YAML))
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None


@contextmanager
def claim(run: Path, patience: float = 1) -> Iterator[int | None]:
    """Hold a run folder, so that no other process starts the same run.

    Yields the descriptor of the lock, to be inherited by the process that does the work (the folder is
    held until both are gone), or None if another living process holds the folder for so many seconds:
    one that only looks (`is_held`) holds it for an instant.
    """
    run.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + patience
        while not (held := _lock(descriptor)) and time.monotonic() < deadline:
            time.sleep(0.02)
        yield descriptor if held else None
    finally:
        os.close(descriptor)


def is_held(run: Path) -> bool:
    """Whether a living process holds a run folder."""
    try:
        descriptor = os.open(run / ".lock", os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
