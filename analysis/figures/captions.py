"""What stands below a figure in a paper: its question, what every mark is, and what it was measured on."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from analysis.evidence import Record
from analysis.measured_on import measured_on
from analysis.sweep_data import SweepData


def question(draw: Callable[..., Figure]) -> str:
    """The question that a figure answers, the first line of its docstring; empty if there is none."""
    return (inspect.getdoc(draw) or "").partition("\n")[0]


def marks(draw: Callable[..., Figure]) -> str:
    """What the marks of a figure are, the paragraphs of its docstring between its question and its sections."""
    paragraphs = (inspect.getdoc(draw) or "").split("\n\n")[1:]
    told = [text for text in paragraphs if not re.match(r"(Args|Returns|Raises):", text)]
    return " ".join(" ".join(told).split())


def caption(draw: Callable[..., Figure], data: SweepData) -> str:
    """The caption of a figure of a sweep."""
    return " ".join(filter(None, [question(draw), marks(draw), _seeds(data.records), measured_on(data.records)])) + "\n"


def _seeds(records: Sequence[Record]) -> str:
    """How many runs of each pattern there are."""
    seeds: dict[str, set[int]] = {}
    for record in records:
        seeds.setdefault(record["pattern"]["label"], set()).add(record["seed"])
    counts = {label: len(found) for label, found in seeds.items()}
    if len(set(counts.values())) == 1:
        return f"n = {next(iter(counts.values()))} seed(s) of each pattern."
    return f"n = {', '.join(f'{count} of {label}' for label, count in counts.items())}."
