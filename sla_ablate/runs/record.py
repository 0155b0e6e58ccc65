"""The files of a run folder that tell what the run is, how far it is and what came of it.

`runs/<sweep>/<run id>/` holds `config.yaml`, `record.json`, `results.json`, `metrics.jsonl`, `run.log` and
`checkpoints/`. The state in a record is `waiting`, `running`, `done`, `failed` or `interrupted`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from sla_ablate.config.schema import RunConfig
from sla_ablate.errors import InputError
from sla_ablate.files import write_atomically
from sla_ablate.runs.identity import SCHEMA, run_folders

CHECKPOINT = "checkpoints"
"""Folder in a run's of its checkpoints and, once it is done, its model."""

Record = dict[str, Any]

_RECORD, _RESULTS = "record.json", "results.json"

_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was built


def write_record(run: Path, record: Record) -> None:
    """Replace the record of a run folder, atomically.

    `results`, if it has any, go into a file of their own, first, so that records stay short and one that says `done`
    has them.
    """
    if "results" in record:
        write_atomically(run / _RESULTS, _as_json(record["results"]))
    write_atomically(run / _RECORD, _as_json({name: value for name, value in record.items() if name != "results"}))


def read_summary(run: Path) -> Record | None:
    """The record of a run folder without its results, which may be long; None if it has no record.

    Raises:
        InputError: the record is damaged, or of another schema version.
    """
    try:
        record: Record = _read_json(run / _RECORD)
        schema = record["schema"]
    except FileNotFoundError:
        return None
    except (KeyError, TypeError):
        raise _damaged(run / _RECORD) from None
    if schema != SCHEMA:
        raise InputError(f"{run / _RECORD} is of schema {schema}; this version reads {SCHEMA}")
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
        InputError: as `read_summary`, or the results are missing or damaged.
    """
    record = read_summary(run)
    if record is not None and record["state"] == "done":
        try:
            record["results"] = _read_json(run / _RESULTS)
        except FileNotFoundError:
            raise InputError(f"{run} is done but has no {_RESULTS}; delete the folder to have the run again") from None
    return record


def _as_json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        raise _damaged(path) from None


def _damaged(path: Path) -> InputError:
    return InputError(f"{path} is damaged; delete the folder to have the run again")


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
        return RunConfig.from_dict(yaml.load(path.read_text(), _YAML_LOADER))
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
