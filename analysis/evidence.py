"""What the records of a sweep are evidence of: one name for each pattern, one record for each run.

A pattern is its tables and a run its pattern and all that it shares with a pair, whatever the two are called.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sla_ablate.config.schema import BASELINE
from sla_ablate.errors import InputError

Record = Mapping[str, Any]
"""One run's `record.json`."""

ENDED = ("done", "diverged")
"""States of runs that came to their end; whose result counts first where two are the same run."""


def distinct(records: Iterable[Record]) -> list[dict[str, Any]]:
    """The records with one label a pattern and one record a run.

    Patterns of the same tables in one setting get a label in common, `first, also second`; those of the baseline's
    tables are the baseline. Of runs that are the same one is left: one that is done, else one that diverged, else
    the first. A done run whose loss is not finite, as earlier versions had them, diverged.

    Raises:
        InputError: two patterns have one label.
    """
    records = [{**record, "state": "diverged"} if _lost(record) else record for record in records]
    _check_labels(record for record in records if record["state"] in ENDED)
    labels: dict[tuple[str, str], dict[str, None]] = {}
    runs: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        labels.setdefault(_pattern(record), {})[record["pattern"]["label"]] = None
        runs.setdefault(same_run(record), []).append(record)
    result = []
    for same in runs.values():
        record = min(same, key=_rank)
        label = BASELINE if is_baseline(record) else ", also ".join(labels[_pattern(record)])
        result.append({**record, "pattern": {**record["pattern"], "label": label}})
    return result


def counted_once(records: Sequence[Record]) -> list[str]:
    """The ids of the runs that `distinct` leaves out."""
    kept = {record["run_id"] for record in distinct(records)}
    return [record["run_id"] for record in records if record["run_id"] not in kept]


def same_run(record: Record) -> tuple[str, str]:
    """What tells a run from every other one: its pairing and its tables."""
    return record["pairing"], tables_of(record)


def tables_of(record: Record) -> str:
    """What tells a pattern from every other one, whatever it is called."""
    return json.dumps(_definition(record), sort_keys=True)


def is_baseline(record: Record) -> bool:
    """Tell whether every head reads its own layer."""
    own = [[layer] * len(heads) for layer, heads in enumerate(record["pattern"]["key_source"])]
    return _definition(record) == {"key_source": own, "value_source": own}


def _lost(record: Record) -> bool:
    return record["state"] == "done" and not all(map(math.isfinite, record["results"]["validation"]["nll"]))


def _rank(record: Record) -> int:
    return ENDED.index(record["state"]) if record["state"] in ENDED else len(ENDED)


def _pattern(record: Record) -> tuple[str, str]:
    return record["setting"], tables_of(record)


def _definition(record: Record) -> dict[str, Any]:
    """All that a record says of a pattern but what it is called."""
    return {key: value for key, value in record["pattern"].items() if key not in ("name", "label")}


def _check_labels(records: Iterable[Record]) -> None:
    """Make sure that each label is one pattern's: a function of the user's own may have changed between two runs.

    Raises:
        InputError: two patterns share one.
    """
    first: dict[tuple[str, str], Record] = {}
    for record in records:
        label = record["pattern"]["label"]
        other = first.setdefault((record["setting"], label), record)
        if tables_of(other) != tables_of(record):
            raise InputError(
                f"{other['run_id']} and {record['run_id']} have other tables and are both called {label!r}; "
                "give one another pattern.label, or move it away"
            )
