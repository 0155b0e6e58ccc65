"""What `analyze` leaves: tables, each with its digest in a small JSON file beside it, without which it is not believed.

A run has `analysis.parquet` and `analysis.json`, a sweep `analysis/*.parquet` and `analysis/tables.json`. The JSON is
written last: one that a kill left out of date tells that its table is to be made again.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sla_ablate.errors import InputError
from sla_ablate.files import read, replace_file
from sla_ablate.runs.digests import digest, digests
from sla_ablate.text.sealed import seal, unseal
from sla_ablate.text.shape import check

RESULT = "analysis.parquet"
"""The file in a run's folder with its rows of `heads.parquet`."""
HEADS, RUNS = "analysis/heads.parquet", "analysis/runs.parquet"
_ABOUT_RESULT, _ABOUT_TABLES = "analysis.json", "analysis/tables.json"
_MOST_BYTES, _MOST_BYTES_OF_TABLE = 2**20, 2**32


def write_result(run: Path, table: pa.Table, about: Mapping[str, Any]) -> None:
    """Write the measurements of a run, and `about`: what they depend on (`depends_on`) and their `extent`."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    replace_file(run / RESULT, buffer.getvalue())
    kept = {RESULT: hashlib.sha256(buffer.getvalue()).hexdigest()}
    replace_file(run / _ABOUT_RESULT, seal({**about, "digests": kept}))


def about_result(run: Path) -> dict[str, Any] | None:
    """The `about` of a run's measurements; None if there are none, or they were changed since."""
    try:
        about = _about(run, _ABOUT_RESULT, {"depends_on": str, "extent": dict, "digests": {RESULT: str}})
        return about if digest(run, RESULT) == about["digests"][RESULT] else None
    except (OSError, ValueError):
        return None


def faults(folder: Path) -> list[str]:
    """What of the tables in the folder of a run or a sweep is not as `analyze` wrote it, a line each."""
    lines = []
    for name in (RESULT, HEADS, RUNS):
        try:
            _table(folder, name, _ABOUT_RESULT if name == RESULT else _ABOUT_TABLES)
        except FileNotFoundError:
            continue
        except InputError as error:
            lines.append(str(error))
    return lines


def read_result(run: Path) -> pa.Table:
    """The measurements of a run that has them; see `about_result`.

    Raises:
        FileNotFoundError: it has none.
        InputError: they were changed since.
    """
    return _table(run, RESULT, _ABOUT_RESULT)


def seal_tables(sweep: Path) -> None:
    """Keep the digests of a sweep's tables, as they are now."""
    replace_file(sweep / _ABOUT_TABLES, seal({"digests": digests(sweep, (HEADS, RUNS))}))


def read_table(sweep: Path, name: str) -> pa.Table:
    """One of a sweep's tables, `HEADS` or `RUNS`.

    Raises:
        FileNotFoundError: the sweep was not analyzed.
        InputError: the table was changed since.
    """
    return _table(sweep, name, _ABOUT_TABLES)


def _table(folder: Path, name: str, about: str) -> pa.Table:
    contents = read(folder, name, _MOST_BYTES_OF_TABLE)
    again = InputError(f"{folder / name} is not as analyze wrote it; run: sla-ablate analyze")
    try:
        kept = _about(folder, about, {"digests": {name: str}})["digests"][name]
    except FileNotFoundError:
        kept = None  # of an earlier version
    except ValueError:
        raise again from None
    if kept is not None and hashlib.sha256(contents).hexdigest() != kept:
        raise again
    try:
        return pq.read_table(io.BytesIO(contents))
    except (pa.ArrowException, OSError):
        raise again from None


def _about(folder: Path, name: str, shape: Mapping[str, Any]) -> dict[str, Any]:
    about = unseal(read(folder, name, _MOST_BYTES))
    check(about, shape)
    return dict(about)
