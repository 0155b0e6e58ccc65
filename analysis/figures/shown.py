"""Which patterns and which runs a figure shows."""

from __future__ import annotations

from analysis.comparison import Record
from analysis.figures.style import SHOWN, Look, looks
from analysis.sweep_data import SweepData


def shown_patterns(data: SweepData, most: int = SHOWN) -> dict[str, Look]:
    """The patterns and how each looks: the first `most` of `data.ranked`, the baseline first, then by label."""
    shown = set(data.ranked[:most])
    return {pattern: look for pattern, look in looks(data.ranked).items() if pattern in shown}


def shown_runs(data: SweepData, most: int = SHOWN) -> list[Record]:
    """The run asked for, or the run with the lowest seed of each of `shown_patterns(data, most)`."""
    if data.run is not None:
        return [record for record in data.records if record["run_id"] == data.run]
    seeds = sorted(data.records, key=lambda record: int(record["seed"]))
    return [next(r for r in seeds if r["pattern"]["label"] == pattern) for pattern in shown_patterns(data, most)]
