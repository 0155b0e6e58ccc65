"""The files of a run folder that tell what the run is, how far it is and what came of it.

`runs/<sweep>/<run id>/` holds `config.yaml`, `record.json`, `results.json`, `metrics.jsonl`, `run.log` and
`checkpoints/`. The state in a record is `waiting`, `running`, `done`, `diverged`, `failed` or `interrupted`; that of a
diverged run has `diverged_at_step`, the optimizer steps that were done when it was seen. Its `sittings`
(`runs/provenance.py`) are the attempts that there were.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from sla_ablate.config.bounds import check_numbers
from sla_ablate.config.schema import RunConfig
from sla_ablate.errors import InputError
from sla_ablate.files import check_inside, read, replace_file
from sla_ablate.runs.digests import AGAIN, read_as_recorded
from sla_ablate.runs.identity import SCHEMA
from sla_ablate.text.sealed import seal, unseal
from sla_ablate.text.shape import Each, OrNone, Shape, check
from sla_ablate.text.words import as_json

CHECKPOINT = "checkpoints"
"""Folder in a run's of its checkpoints and, once it is done, its model."""

FINAL = ("done", "diverged")
"""States that are never left: the same run, carried out again, would end so again."""
BEST = "best"
"""Folder in that of the checkpoints of the model of the lowest validation loss, if it was asked for."""

Record = dict[str, Any]

_RECORD, _RESULTS, _CONFIG = "record.json", "results.json", "config.yaml"
_MOST_BYTES, _MOST_BYTES_OF_RESULTS = 2**24, 2**30
_NAME = re.compile(r"[\w=+-][\w.=+-]*", re.ASCII)
_COUNT = range(10**15)
_TABLE = Each(Each(range(4096), 4096), 4096)
_SHAPE = {
    "run_id": _NAME,
    "setting": _NAME,
    "pairing": str,
    "state": ("waiting", "running", "done", "diverged", "failed", "interrupted"),
    "attempt": _COUNT,
    "error": OrNone(str),
    "seed": _COUNT,
    "pattern": {"name": str, "label": str, "key_source": _TABLE, "value_source": _TABLE},
    "config": {
        "model": dict.fromkeys(("n_layer", "n_head", "n_embd", "block_size"), range(1, 2**31)),
        "data": {},
        "optim": {"steps": range(1, 10**9 + 1), "batch_size": range(1, 10**6 + 1)},
    },
}
_SITTING = {"began": str, "ended": OrNone(str), "command": OrNone(str)}
_IF_THERE = {"sittings": Each(_SITTING), "entered_by": OrNone(str), "environment": {}}
"""What later versions added to records, or is there once a run began."""
_COSTS = ("parameters", "parameters_read", "training_flops_per_token", "kv_cache_bytes_per_token")
_DONE = {
    "cost": dict.fromkeys((*_COSTS, "tokens", "tokens_per_second", "seconds"), float),
    "environment": {"precision": str},
}
_RESULTS_SHAPE = {
    "validation": {
        "documents": Each(str),
        "nll": Each(float),
        **dict.fromkeys(("tokens", "bytes", "words"), Each(_COUNT)),
        **{"context_length": _COUNT, "stride": OrNone(_COUNT), "start_token": OrNone(str)},
    }
}
"""What is read of a record, of that of a done run and of its results; each may hold more."""

_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was built


def write_record(run: Path, record: Record) -> None:
    """Replace the record of a run folder, atomically; it has a digest of itself and, in `digests`, of other files.

    `results`, if it has any, go into a file of their own, first, so that records stay short and one that says `done`
    has them.
    """
    record = dict(record)
    if "results" in record:
        text = _as_json(record.pop("results"))
        replace_file(run / _RESULTS, text)
        record["digests"] = {**record.get("digests", {}), _RESULTS: hashlib.sha256(text).hexdigest()}
    replace_file(run / _RECORD, seal(record))


def read_summary(run: Path) -> Record | None:
    """The record of a run folder without its results, which may be long; None if it has no record.

    Whoever works with a run reads this first. So it is here that a folder of somebody else's is looked at.

    Raises:
        InputError: the record is damaged, or of another schema version, the folder holds links that lead out of it, or
            the run is done and its results are missing or were changed.
    """
    record, _ = _read(run)
    return record


def existing_summary(run: Path) -> Record:
    """The record of `read_summary` for a folder that has to be a run's.

    Raises:
        InputError: as `read_summary`, or there is no record.
    """
    record = read_summary(run)
    if record is None:
        raise InputError(f"{run} is not a run's folder: it holds no record.json")
    return record


def record_stamp(run: Path) -> int | None:
    """What is another number when the record of a run folder was replaced; None if it has no record."""
    try:
        return (run / _RECORD).stat().st_mtime_ns
    except OSError:
        return None


def read_record(run: Path) -> Record | None:
    """The record of a run folder, with `results` if the run is done; None if it has no record.

    Raises:
        InputError: as `read_summary`, or the results are damaged.
    """
    record, text = _read(run)
    if record is not None and text is not None:
        record["results"] = _checked(run / _RESULTS, text, _RESULTS_SHAPE)
    return record


def _read(run: Path) -> tuple[Record | None, bytes | None]:
    """The record, and the results of a done run as text."""
    for folder in ("", f"/{CHECKPOINT}", f"/{CHECKPOINT}/{BEST}"):
        check_inside(f"{run}{folder}")
    try:
        text = read(run, _RECORD, _MOST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None, None
    record = _checked(run / _RECORD, text, {"schema": int})
    if record["schema"] != SCHEMA:
        raise InputError(f"{run / _RECORD} is of schema {record['schema']}; this version reads {SCHEMA}")
    _check(run / _RECORD, record, _SHAPE | {name: _IF_THERE[name] for name in _IF_THERE.keys() & record.keys()})
    if record["state"] != "done":
        return record, None
    _check(run / _RECORD, record, _DONE)
    try:
        return record, read_as_recorded(run, _RESULTS, _MOST_BYTES_OF_RESULTS, record)
    except FileNotFoundError:
        raise InputError(f"{run} is done but has no {_RESULTS}; {AGAIN}") from None


def _checked(path: Path, text: bytes, shape: Shape) -> dict[str, Any]:
    try:
        value: dict[str, Any] = unseal(text)
    except ValueError as error:
        raise _damaged(path, error) from None
    _check(path, value, shape)
    return value


def _check(path: Path, value: Any, shape: Shape) -> None:
    try:
        check(value, shape)
    except ValueError as error:
        raise _damaged(path, error) from None


def _as_json(value: Any) -> bytes:
    return (as_json(value, indent=1) + "\n").encode()


def _damaged(path: Path, error: ValueError) -> InputError:
    return InputError(f"{path} is damaged ({error}); {AGAIN}")


def not_done(run: Path, record: Mapping[str, Any]) -> InputError:
    """The error for a run that is not done where one that is done is needed, with the reason where there is one."""
    reason = f": {record['error']}" if record["error"] else ""
    return InputError(f"{run} is {record['state']}, not done{reason}")


def write_config(run: Path, config: RunConfig) -> None:
    """Replace `config.yaml` of a run folder, atomically."""
    replace_file(run / _CONFIG, yaml.safe_dump(asdict(config), sort_keys=False).encode())


def read_config(run: Path) -> RunConfig:
    """The configuration that a run folder holds.

    Raises:
        InputError: it has none, or one that this version does not understand.
    """
    path = run / _CONFIG
    try:
        config = RunConfig.from_dict(yaml.load(read(run, _CONFIG, _MOST_BYTES).decode(), _YAML_LOADER))
        check_numbers(config)
        return config
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # an InputError is a ValueError
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
