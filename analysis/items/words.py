"""What stands around an item's table: its caption, what was published, and its answer in a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import median

import numpy as np
import pandas as pd

from analysis.comparison import BASELINE
from analysis.items.table import ItemTable
from analysis.power import pooled_std, smallest_difference
from sla_ablate.items.published import Published

READINGS = {
    "A": "the distance: layer l reads layer l − n_l",
    "B": "the number of layers that carry skip heads, the last n_l",
    "C": "a window: skip heads spread over up to n_l layers below",
}


def caption(table: ItemTable) -> str:
    """Everything that one has to know to read the table, in sentences."""
    line, rows = table.done[0], table.rows
    config, validation = line["config"], line["validation"]
    steps, batch = _told(r["config"]["optim"]["steps"] for r in table.records), config["optim"]["batch_size"]
    tokens = _told(f"{line['cost']['tokens'] / 1e6:,.2f}" for line in table.done)
    shape = " × ".join(
        _told(r["config"]["model"][key] for r in table.records) for key in ("n_layer", "n_head", "n_embd")
    )
    sentences = [
        f"{table.item.name} at {table.scale}: {shape} (layers × heads × width), "
        f"context length {_told(r['config']['model']['block_size'] for r in table.records)}, "
        f"{steps} steps of {batch} sequences ({tokens} M tokens).",
        f"Corpus {corpus(table)}, {_told(r['config']['data']['vocab_size'] for r in table.records)} tokens of "
        f"vocabulary; validation on {validation['tokens']:,} tokens of {validation['documents']} documents.",
        f"Trained in {table.precision} on {', '.join(table.processors)}, scored in float32.",
        "Mean ± standard deviation over n seeds; Δ: pattern minus the baseline of the same seed, initial weights,"
        " batches and kind of processor, with its 95 % t-interval; p: paired t test, Holm-adjusted over the"
        " patterns of a setting; ↓ lower is better.",
    ]
    if lost := _diverged(table):
        sentences.append(lost)
    if table.item.reading:
        sentences.append(f"n_l is read as {table.item.reading}, {READINGS[table.item.reading]}.")
    if resolvable := _resolvable(table):
        sentences.append(resolvable)
    if rows["worth"].notna().any():
        sentences.append(
            "Worth: the factor of training compute by which the baseline would have to be trained longer to reach the"
            " same loss, from its own curve."
        )
    return " ".join(sentences)


def corpus(table: ItemTable) -> str:
    """The corpus by name and digest."""
    line = table.lines[0]
    name = line["config"]["data"].get("corpus") or "of the user's own"
    return f"{name} ({line['data']})"


def headline(table: ItemTable) -> str:
    """The answer in a sentence: the largest difference, and how many are resolved."""
    rows = table.rows[(table.rows["pattern"] != BASELINE) & (table.rows["pairs"] > 1)]
    if rows.empty:
        return f"{len(table.lines)} run(s), no pair of seeds yet"
    best = rows.loc[rows["delta"].idxmin()]
    lower = ((rows["delta"] < 0) & (rows["p_holm"] < 0.05)).sum()
    higher = ((rows["delta"] > 0) & (rows["p_holm"] < 0.05)).sum()
    keys = ", ".join(f"{key}={best[key]}" for key in table.item.rows if not key.startswith("pattern."))
    return (
        f"lowest: {best['pattern']}{f' ({keys})' if keys else ''}, Δ {best['delta']:+.4f} "
        f"[{best['delta_low']:+.4f}, {best['delta_high']:+.4f}] nats/token, n = {best['pairs']}; "
        f"of {len(rows)} compared {lower} lower, {higher} higher, {len(rows) - lower - higher} not resolved (Holm)"
    )


def published(values: Iterable[Published]) -> list[str]:
    """A sentence for each published value."""
    lines = []
    for value in values:
        numbers = [] if value.loss is None else [f"loss {value.loss:g}"]
        numbers += [] if value.delta is None else [f"Δ {value.delta:+g} ({value.unit})"]
        lines.append(f"{value.what}: {', '.join(numbers)}. {value.source}; trust: {value.trust}.")
    return lines


def _diverged(table: ItemTable) -> str:
    """How many runs of which patterns diverged."""
    rows = table.rows[table.rows["diverged"] > 0]
    told = [f"{row['diverged']} of {row['diverged'] + row['runs']} of {row['pattern']}" for _, row in rows.iterrows()]
    return f"Diverged, and left out with their pairs: {'; '.join(told)}." if told else ""


def _resolvable(table: ItemTable) -> str:
    """The smallest difference that these seeds can show, from the typical spread of the paired differences."""
    groups = [group["delta"] for _, group in table.deltas.groupby(["setting", "pattern"])]
    pooled = pooled_std(groups)
    if math.isnan(pooled):
        return ""
    n = int(median(len(group) for group in groups))
    return (
        f"With {n} pairs whose differences spread as these do (standard deviation {pooled:.4f}), "
        f"a difference of {smallest_difference(pooled, n):.4f} is resolved with a chance of 80 %."
    )


def _told(values: Iterable[object]) -> str:
    """The different values, the least first."""
    found = pd.unique(np.array(list(values), dtype=object))
    return ", ".join(map(str, found))
