"""`metrics.jsonl`, read: the lines that are metrics, and how many are none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sla_ablate.errors import InputError
from sla_ablate.files import opened
from sla_ablate.runs.digests import read_as_recorded
from sla_ablate.text.shape import check

METRICS = "metrics.jsonl"
Line = dict[str, Any]

_MOST_BYTES = 2**30
_TAIL_BYTES = 4096
_STEP = {"step": range(10**9 + 1)}


def read_metrics(run: Path, record: Mapping[str, Any]) -> tuple[list[Line], list[int]]:
    """The metrics of a run, and the numbers of the lines that are none; half a line at the end is being written.

    Args:
        run: its folder.
        record: of a run that has ended, with the digest of its metrics; that of another has none.

    Raises:
        InputError: they are missing, no file, too long, or were changed since the run ended.
    """
    try:
        contents = read_as_recorded(run, METRICS, _MOST_BYTES, record)
    except FileNotFoundError:
        raise InputError(f"{run / METRICS} is missing") from None
    lines, others = [], []
    for n, text in enumerate(contents.split(b"\n")[:-1], 1):
        line = _metrics(text)
        if line is None:
            others.append(n)
        else:
            lines.append(line)
    return lines, others


def no_metrics(run: Path, others: list[int]) -> str:
    """What is to be told of lines that are no metrics."""
    return f"{run / METRICS}: {len(others)} line(s) are no metrics, the first is line {others[0]}; they are left out"


def last_metrics(run: Path) -> list[Line]:
    """The last of them, some ten; none if the run has none."""
    try:
        with opened(run, METRICS) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            complete = file.read(2 * _TAIL_BYTES).split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    return _all(map(_metrics, complete[-10:]))


def _all(lines: Iterable[Line | None]) -> list[Line]:
    return [line for line in lines if line is not None]


def _metrics(text: bytes) -> Line | None:
    """A step, and numbers; None for what was not finite."""
    try:
        line = json.loads(text)
        check(line, _STEP)
        for value in line.values():
            if value is not None:
                check(value, float)
    except (ValueError, RecursionError):
        return None
    return dict(line)
