"""Which patterns and which runs a figure shows."""

from __future__ import annotations

from analysis.comparison import BASELINE, Record
from analysis.figures.style import SHOWN, Look, looks, natural
from analysis.sweep_data import SweepData


def shown_patterns(data: SweepData, most: int = SHOWN) -> dict[str, Look]:
    """The patterns that were chosen, and how each looks; else the baseline and the first by label, `most` in all."""
    if data.chosen:
        every = looks(data.chosen, chosen=True)
        return {pattern: every[pattern] for pattern in data.chosen if pattern in data.ranked}
    labels = sorted(data.ranked, key=lambda label: (label != BASELINE, natural(label)))
    every = looks(labels)
    return {pattern: every[pattern] for pattern in labels[:most]}


def shown_runs(data: SweepData, most: int = SHOWN) -> list[Record]:
    """The run asked for, or the run with the lowest seed of each of `shown_patterns(data, most)`."""
    if data.run is not None:
        return [record for record in data.records if record["run_id"] == data.run]
    seeds = sorted(data.records, key=lambda record: int(record["seed"]))
    return [next(r for r in seeds if r["pattern"]["label"] == pattern) for pattern in shown_patterns(data, most)]
