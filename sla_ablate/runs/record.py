"""The files of a run folder that tell what the run is, how far it is and what came of it.

`runs/<sweep>/<run id>/` holds `config.yaml`, `record.json`, `results.json`, `metrics.jsonl`, `run.log` and
`checkpoints/`. The state in a record is `waiting`, `running`, `done`, `diverged`, `failed` or `interrupted`; that of a
diverged run has `diverged_at_step`, the optimizer steps that were done when it was seen. Its `sittings`
(`runs/provenance.py`) are the attempts that there were.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from sla_ablate.config.bounds import check_numbers
from sla_ablate.config.schema import RunConfig
from sla_ablate.errors import InputError
from sla_ablate.files import check_inside, replace_file
from sla_ablate.runs.identity import SCHEMA, run_folders
from sla_ablate.text.words import as_json

CHECKPOINT = "checkpoints"
"""Folder in a run's of its checkpoints and, once it is done, its model."""

FINAL = ("done", "diverged")
"""States that are never left: the same run, carried out again, would end so again."""
BEST = "best"
"""Folder in that of the checkpoints of the model of the lowest validation loss, if it was asked for."""

Record = dict[str, Any]

_NAME = re.compile(r"[\w=+-][\w.=+-]*", re.ASCII)
_RECORD, _RESULTS = "record.json", "results.json"

_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where it was built


def write_record(run: Path, record: Record) -> None:
    """Replace the record of a run folder, atomically.

    `results`, if it has any, go into a file of their own, first, so that records stay short and one that says `done`
    has them.
    """
    if "results" in record:
        replace_file(run / _RESULTS, _as_json(record["results"]))
    replace_file(run / _RECORD, _as_json({name: value for name, value in record.items() if name != "results"}))


def read_summary(run: Path) -> Record | None:
    """The record of a run folder without its results, which may be long; None if it has no record.

    Whoever works with a run reads this first. So it is here that a folder of somebody else's is looked at.

    Raises:
        InputError: the record is damaged, or of another schema version, or the folder holds links that lead out of it.
    """
    for folder in (run, run / CHECKPOINT, run / CHECKPOINT / BEST):
        check_inside(folder)
    try:
        record: Record = _read_json(run / _RECORD)
        schema = record["schema"]
    except FileNotFoundError:
        return None
    except (KeyError, TypeError):
        raise _damaged(run / _RECORD) from None
    if schema != SCHEMA:
        raise InputError(f"{run / _RECORD} is of schema {schema}; this version reads {SCHEMA}")
    for name in ("run_id", "setting"):  # which name files
        if not _NAME.fullmatch(str(record.get(name, "-"))):
            raise _damaged(run / _RECORD)
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
    return (as_json(value, indent=1) + "\n").encode()


def _read_json(path: Path) -> Any:
    try:
        text = path.read_bytes()
        value = json.loads(text)
        if b"\\ud" in text.lower():  # perhaps half a surrogate pair, which no table can hold
            value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
        return value
    except (ValueError, RecursionError):
        raise _damaged(path) from None


def _damaged(path: Path) -> InputError:
    return InputError(f"{path} is damaged; delete the folder to have the run again")


def not_done(run: Path, record: Record) -> InputError:
    """The error for a run that is not done where one that is done is needed, with the reason where there is one."""
    reason = f": {record['error']}" if record["error"] else ""
    return InputError(f"{run} is {record['state']}, not done{reason}")


def read_records(sweep: Path) -> list[Record]:
    """Every record of a sweep, by run id.

    Raises:
        InputError: the folder has none.
    """
    records = [read_record(folder) for folder in run_folders(sweep)]
    return [record for record in records if record is not None]


def write_config(run: Path, config: RunConfig) -> None:
    """Replace `config.yaml` of a run folder, atomically."""
    replace_file(run / "config.yaml", yaml.safe_dump(asdict(config), sort_keys=False).encode())


def read_config(run: Path) -> RunConfig:
    """The configuration that a run folder holds.

    Raises:
        InputError: it has none, or one that this version does not understand.
    """
    path = run / "config.yaml"
    try:
        config = RunConfig.from_dict(yaml.load(path.read_text(encoding="utf-8"), _YAML_LOADER))
        check_numbers(config)
        return config
    except (OSError, yaml.YAMLError, ValueError) as error:  # an InputError is a ValueError
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
