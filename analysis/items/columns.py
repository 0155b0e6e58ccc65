"""The table of an item as columns of text, which Markdown, LaTeX and HTML then set."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from analysis.comparison import BASELINE
from analysis.items.table import ItemTable

_TITLES = {
    "pattern.distance": "Distance",
    "pattern.heads": "Skip heads",
    "pattern.layers": "Skip layers",
    "pattern.placement": "Which heads",
    "pattern.share": "Through",
    "pattern.source": "Source layer",
    "optim.lr": "Peak learning rate",
    "optim.steps": "Training steps",
    "model.block_size": "Context length",
    "model.n_embd": "Width",
    "model.n_layer": "Layers",
}


@dataclass(frozen=True)
class Column:
    """One column; `best` marks the cells that are set bold."""

    title: str
    cells: Sequence[str]
    is_number: bool = True
    best: Sequence[bool] = ()
    is_delta: bool = False
    """Whether it holds the differences to the baseline."""


def key_title(key: str) -> str:
    """A key of the configuration in words."""
    return _TITLES.get(key, key.partition(".")[2].replace("_", " ").capitalize())


def minus(text: str) -> str:
    """Text with the sign of minus before numbers, where a hyphen was."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text)


def delta_text(row: pd.Series, digits: int = 4, name: str = "delta") -> str:
    """A difference with its interval, if there is one."""
    mean, low, high = (f"{row[name + end]:+.{digits}f}" for end in ("", "_low", "_high"))
    return mean if math.isnan(row[f"{name}_low"]) else f"{mean} [{low}, {high}]"


def columns(table: ItemTable) -> list[Column]:
    """The columns of an item's table, those without any value left out."""
    rows = table.rows
    loss = rows["nats_per_token_mean"]
    found = [
        Column("Pattern", list(rows["pattern"]), is_number=False),
        *(_of_key(key, rows[key]) for key in table.item.rows),
        Column("n", [str(n) for n in rows["runs"]]),
        Column(
            "Nats/token ↓",
            [_mean_std(*pair) for pair in zip(loss, rows["nats_per_token_std"], strict=True)],
            best=list(loss == loss.min()),
        ),
        Column("Δ [95 % interval] ↓", [_delta(row) for _, row in rows.iterrows()], is_delta=True),
        Column("p (Holm)", [_p(p) for p in rows["p_holm"]]),
        Column("Worth (× compute) ↑", [_factor(row) for _, row in rows.iterrows()]),
        Column("Δ at equal FLOPs ↓", [_number(value, "+.4f") for value in rows["delta_at_equal_flops"]]),
        Column("Δ at equal cache [95 % interval] ↓", [_at_equal_cache(row) for _, row in rows.iterrows()]),
        Column("Published loss", [_number(value, ".3f") for value in rows["published_loss"]]),
        Column("Published Δ", [_number(value, "+.4f") for value in rows["published_delta"]]),
        Column("Parameters read ↓", [_number(n, ",") for n in rows["parameters_read"]]),
        Column("MFLOP/token ↓", [_number(n / 1e6, ",.2f") for n in rows["training_flops_per_token"]]),
        Column("Cache B/token ↓", [_number(n, ",") for n in rows["kv_cache_bytes_per_token"]]),
        Column("Processor", list(rows["processors"]), is_number=False),
    ]
    return [column for column in found if any(column.cells)]


def _of_key(key: str, values: pd.Series) -> Column:
    return Column(key_title(key), [plain(value) for value in values], is_number=is_numeric_dtype(values))


def plain(value: Any) -> str:
    """A key's value in a cell or at an axis; empty where a pattern has no use for it."""
    return "" if value is None or pd.isna(value) else f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: float | None, spec: str) -> str:
    return "" if value is None or pd.isna(value) else format(value, spec)


def _mean_std(mean: float, std: float) -> str:
    return f"{mean:.4f}" if math.isnan(std) else f"{mean:.4f} ± {std:.4f}"


def _delta(row: pd.Series) -> str:
    return "" if row["pattern"] == BASELINE or not row["pairs"] else delta_text(row)


def _at_equal_cache(row: pd.Series) -> str:
    name = "delta_at_equal_cache"
    return "" if math.isnan(row[name]) else delta_text(row, name=name)


def _p(p: float) -> str:
    return "" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def _factor(row: pd.Series) -> str:
    if math.isnan(row["worth"]):
        return ""
    low, high = (f"{row[name]:.2f}".replace("inf", "∞") for name in ("worth_low", "worth_high"))
    return f"{row['worth']:.2f} [{low}, {high}]"
