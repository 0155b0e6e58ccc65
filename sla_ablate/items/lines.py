"""Results that travel: a line for each run that is done or diverged, in an append-only file, with a digest over it.

A line is all that tables and figures need of a run, some kilobytes; it counts as the run on every machine.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sla_ablate.errors import InputError
from sla_ablate.files import naming
from sla_ablate.runs.metrics import read_metrics

FILE = "runs.jsonl"
Line = dict[str, Any]

_CONFIG = ("model", "pattern", "data", "optim", "evaluation", "seed")
"""The sections of a configuration that a result depends on."""
_POINTS = 24
_OF_A_MACHINE = ("path", "cache")
"""Keys of `data` that are of the machine; the digest of the text is in the line."""


def line_of(
    record: Mapping[str, Any],
    data_digest: str,
    heads: Mapping[str, Any] | None,
    curve: Sequence[tuple[int, float | None]] = (),
) -> Line:
    """What travels of a run that is done or diverged.

    Args:
        record: its record, with results; a diverged run has none.
        data_digest: of its tokens (`TokenShards.digest`).
        heads: what was measured of its heads, by name; None: nothing.
        curve: steps with the training loss there, in nats per token.
    """
    results = record.get("results")
    config = {name: value for name, value in record["config"].items() if name in _CONFIG}
    config["data"] = {name: value for name, value in config["data"].items() if name not in _OF_A_MACHINE}
    line = {
        **{name: record[name] for name in ("schema", "run_id", "pairing", "setting", "seed", "pattern", "state")},
        "diverged_at_step": record.get("diverged_at_step"),
        "data": data_digest,
        "config": config,
        "environment": record["environment"],
        "cost": record.get("cost"),
        "validation": results and _totals(results["validation"]),
        "classes": results and results["classes"],
        "heads": heads,
        "curve": [list(point) for point in curve],
    }
    return {**line, "digest": digest(line)}


def _totals(validation: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: validation[name] for name in ("context_length", "stride", "start_token")},
        "documents": len(validation["documents"]),
        "nll": math.fsum(validation["nll"]),
        **{name: sum(validation[name]) for name in ("tokens", "bytes", "words")},
    }


def training_curve(run: Path, record: Mapping[str, Any]) -> list[tuple[int, float | None]]:
    """Steps with the training loss there, some `_POINTS` of those that a run has logged."""
    logged, _ = read_metrics(run, record)
    points = [(line["step"], line["loss"]) for line in logged if "loss" in line]
    return points[:: -(-len(points) // _POINTS) or 1]


def digest(line: Mapping[str, Any]) -> str:
    """The digest of a line without its own."""
    rest = {name: value for name, value in line.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, allow_nan=False).encode()).hexdigest()


def record_of(line: Line) -> dict[str, Any]:
    """A line in the form of its run's record, for the tables: its documents as one.

    Runs are a pair only on one kind of processor, whose rounding is a part of the result.
    """
    paired = {**line, "pairing": f"{line['pairing']} {processor_of(line)}"}
    if line["state"] == "diverged":
        return paired
    validation = line["validation"]
    totals = {name: [validation[name]] for name in ("nll", "tokens", "bytes", "words")}
    return {**paired, "results": {"validation": {**validation, **totals}, "classes": line["classes"]}}


def processor_of(line: Line) -> str:
    """The kind of processor that a run was carried out on; of several, all of them."""
    return str(line["environment"]["processor"])


def read_lines(path: Path) -> list[Line]:
    """The lines of a file, none if there is no file; what a kill cut off at its end is no line.

    Raises:
        InputError: a line was altered since it was written, or is none; names it.
    """
    try:
        complete = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    lines = []
    for n, text in enumerate(complete, 1):
        try:
            line = json.loads(text)
            whole = digest(line) == line["digest"]
        except (ValueError, TypeError, KeyError, AttributeError):
            raise InputError(f"{path}, line {n} is no result of a run; restore it or remove the line") from None
        if not whole:
            raise InputError(
                f"{path}, line {n} ({line.get('run_id')}) was altered since it was written: its digest differs; "
                "restore it or remove the line"
            )
        lines.append(line)
    return lines


def append_lines(path: Path, lines: Iterable[Line]) -> None:
    """Add lines to a file, those that it lacks, whatever other processes add at the same time.

    A line counts from its line feed on, so a kill leaves whole lines, and the next writer takes away the rest of one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        there = file.read()
        whole = there[: there.rfind(b"\n") + 1]
        file.truncate(len(whole))
        written = set(whole.split(b"\n"))
        for line in lines:
            if (text := json.dumps(line, allow_nan=False).encode()) not in written:
                file.write(text + b"\n")
        file.flush()
        os.fsync(file.fileno())
