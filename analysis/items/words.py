"""What stands around an item's table: its caption, what was published, and its answer in a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from statistics import median

import pandas as pd

from analysis.comparison import BASELINE
from analysis.items.columns import key_title, minus, plain
from analysis.items.table import ItemTable, verdict
from analysis.power import pooled_std, smallest_difference
from sla_ablate.items.published import Published

READINGS = {
    "A": "the distance: layer l reads layer l − n_l",
    "B": "the number of layers that carry skip heads, the last n_l",
    "C": "a window: skip heads spread over up to n_l layers below",
}


TRUST = (
    "Trust: high, from tables of the source itself; medium, from a digest of it; low, from notes of others. "
    "Published values are of other models, data and lengths of training than those measured here, so it is the sign "
    "and the order of differences that can be compared."
)


def caption(table: ItemTable) -> str:
    """Everything that one has to know to read the table."""
    return " ".join(notes(table))


def notes(table: ItemTable) -> list[str]:
    """The caption's parts, a sentence or a few each."""
    line, rows = table.done[0], table.rows
    config, validation = line["config"], line["validation"]
    steps, batch = _told(r["config"]["optim"]["steps"] for r in table.records), config["optim"]["batch_size"]
    tokens = _told((line["cost"]["tokens"] / 1e6 for line in table.done), ",.2f")
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
            " same loss, from its own curve. Δ at equal FLOPs: to a baseline that is trained with as many FLOPs in all"
            " as the pattern, which may need fewer for a token; from the same curve."
        )
    sentences += curves_told(table)
    if rows["delta_at_equal_cache"].notna().any():
        sentences.append(
            "Δ at equal cache: to a baseline that was made narrower until it caches no more bytes a token, its loss"
            " between two measured widths linear in the logarithm of these bytes; with its 95 % t-interval over seeds."
        )
    return sentences


def curves_told(table: ItemTable) -> list[str]:
    """The baseline's curves over training lengths in numbers; or why there is none, and so no factor of compute."""
    fitted = list({id(found): found for found in map(table.curves.of, table.done)}.values())
    told = [
        f"The baseline's curve, from {len(found.runs)} runs of {found.runs['tokens'].min() / 1e6:,.2f} to"
        f" {found.runs['tokens'].max() / 1e6:,.2f} M tokens: {found.curve}; largest residual"
        f" {found.residuals()['residual'].abs().max():.4f} nats."
        for found in fitted
        if found.curve
    ]
    reasons = dict.fromkeys(found.reason for found in fitted if found.reason)
    return told + [f"No factor of compute: {reason}." for reason in reasons if not told]


def corpus(table: ItemTable) -> str:
    """The corpus by name and digest."""
    line = table.lines[0]
    name = line["config"]["data"].get("corpus") or "of the user's own"
    return f"{name} ({line['data']})"


def headline(table: ItemTable) -> str:
    """The answer in a sentence: how many differences are resolved, and the lowest."""
    rows = table.rows[(table.rows["pattern"] != BASELINE) & (table.rows["pairs"] > 1)]
    if rows.empty:
        return "no pattern has two pairs of seeds yet"
    best = rows.sort_values("delta").iloc[0]
    counts = Counter(verdict(row) for _, row in rows.iterrows())
    told = ", ".join(f"{counts[name] or 'none'} {name}" for name in ("lower", "higher", "not resolved"))
    return (
        f"of {len(rows)} compared with the baseline: {told} (Holm); lowest: {best['pattern']}{_setting(table, best)}, "
        f"Δ {best['delta']:+.4f} [{best['delta_low']:+.4f}, {best['delta_high']:+.4f}] nats/token over "
        f"{best['pairs']} pairs"
    )


def answer(table: ItemTable) -> str:
    """The headline for readers of prose."""
    parts = headline(table).split("; ")
    return minus(" ".join(f"{part[:1].upper()}{part[1:]}." for part in parts))


def spoken(table: ItemTable) -> str:
    """The differences of all rows, for those who cannot see a figure of them."""
    rows = table.rows[(table.rows["pattern"] != BASELINE) & (table.rows["pairs"] > 0)].sort_values("delta")
    told = []
    for _, row in rows.iterrows():
        interval = f", interval {row['delta_low']:+.4f} to {row['delta_high']:+.4f}" if row["pairs"] > 1 else ""
        told.append(f"{row['pattern']}{_setting(table, row)} {row['delta']:+.4f}{interval}, {verdict(row)}")
    return minus(f"Difference to the baseline in nats per token, the lowest first: {'; '.join(told)}.")


def spoken_curves(table: ItemTable) -> str:
    """Where training losses begin and end, for those who cannot see a figure of them."""
    curves = [[loss for _, loss in record["curve"] if loss is not None] for record in table.records]
    curves = [losses for losses in curves if losses]
    if not curves:
        return ""
    first, last = ([losses[at] for losses in curves] for at in (0, -1))
    return (
        f"The training loss of {len(curves)} runs falls from between {min(first):.2f} and {max(first):.2f} at the first"
        f" step shown to between {min(last):.2f} and {max(last):.2f} nats per token at the last."
    )


def _setting(table: ItemTable, row: pd.Series) -> str:
    """The keys of a row that are not in its pattern's name and not the same in all."""
    compared = table.rows[table.rows["pairs"] > 0]
    own = [key for key in table.item.rows if not key.startswith("pattern.") and compared[key].nunique() > 1]
    return "".join(f" at {key_title(key).lower()} {plain(row[key])}" for key in own)


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
    n = int(median(map(len, groups))) if groups else 0
    if n < 2:
        return ""
    return (
        f"With {n} pairs whose differences spread as these do (standard deviation {pooled:.4f}), "
        f"a difference of {smallest_difference(pooled, n):.4f} is resolved with a chance of 80 %."
    )


def _told(values: Iterable[float], spec: str = "") -> str:
    """The different values, the least first."""
    return ", ".join(format(value, spec) for value in sorted(set(values)))
