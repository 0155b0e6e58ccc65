"""What stands below a figure in a paper: its question, what every mark is, and what it was measured on."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from analysis.comparison import Record
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
    return " ".join(filter(None, [question(draw), marks(draw), measured_on(data.records)])) + "\n"


def measured_on(records: Sequence[Record]) -> str:
    """What runs of one setting have in common, and how many of each pattern there are."""
    seeds: dict[str, set[int]] = {}
    for record in records:
        seeds.setdefault(record["pattern"]["label"], set()).add(record["seed"])
    counts = {label: len(found) for label, found in seeds.items()}
    if len(set(counts.values())) == 1:
        n = f"n = {next(iter(counts.values()))} seed(s) of each pattern."
    else:
        n = f"n = {', '.join(f'{count} of {label}' for label, count in counts.items())}."
    record = records[0]
    m, o = record["config"]["model"], record["config"]["optim"]
    corpus = record["config"]["data"].get("corpus") or "of the user's own"
    validation, tokens = record["results"]["validation"], record["cost"]["tokens"] / 1e6
    return (
        f"{n} Model: {m['n_layer']} layers × {m['n_head']} heads × {m['n_embd']}, context length {m['block_size']}; "
        f"{o['steps']} steps of {o['batch_size']} sequences ({tokens:,.2f} M tokens), trained in "
        f"{record['environment']['precision']}. Corpus: {corpus}; validation on "
        f"{sum(validation['tokens']):,} tokens of {len(validation['documents'])} documents."
    )
