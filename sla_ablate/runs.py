"""Run folders: what identifies a run, its record, and who may write it.

`runs/<sweep>/<run id>/` holds `config.yaml`, `record.json`, `metrics.jsonl`, `run.log` and `checkpoints/`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sla_ablate.config import RunConfig
from sla_ablate.errors import InputError
from sla_ablate.files import write_atomically

SCHEMA = 1
"""Part of every run id: raised when the same configuration would give other results."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Identity:
    """Hashes of what determines a run's result; never of paths, devices or logging."""

    run_id: str
    """Readable slug and hash of everything."""
    pairing: str
    """Of everything but the pattern: runs that share it are a pair."""
    setting: str
    """Of everything but the pattern and the seed: runs that share it stand in one table."""


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
    try:
        record: Record = json.loads((run / "record.json").read_text())
    except FileNotFoundError:
        return None
    if record["schema"] != SCHEMA:
        raise InputError(f"{run / 'record.json'} is of schema {record['schema']}; this version reads {SCHEMA}")
    return record


def read_records(sweep: Path) -> list[Record]:
    """Every record of a sweep, by run id.

    Raises:
        InputError: the folder has none.
    """
    records = [read_record(path.parent) for path in sorted(sweep.glob("*/record.json"))]
    if not records:
        near = sorted(path.name for path in sweep.parent.glob("*") if path.is_dir() and path != sweep)
        hint = f"; beside it there are: {', '.join(near)}" if near else ""
        raise InputError(f"{sweep} holds no run records{hint}")
    return [record for record in records if record is not None]


@contextmanager
def claim(run: Path) -> Iterator[int | None]:
    """Hold a run folder, so that no other process starts the same run.

    Yields the descriptor of the lock, to be inherited by the process that does the work (the folder is
    held until both are gone), or None if another living process holds the folder.
    """
    run.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
