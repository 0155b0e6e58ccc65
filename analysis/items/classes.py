"""Where a difference of loss is: paired differences by class of token (`sla_ablate.data.classes`)."""

from __future__ import annotations

import pandas as pd

from analysis.comparison import BASELINE, paired_deltas
from analysis.items.table import ItemTable
from analysis.statistics import paired_interval

PARTITIONS = {
    "frequency": "by frequency, tenths from the rarest",
    "word": "by place, in the word",
    "recall": "by bigram, in the context",
    "position": "by position, from this token on",
}
"""The partitions in words."""
CLASSES = {
    "begins": "begins it",
    "goes_on": "goes on",
    "rare_hit": "seen, rare",
    "other_hit": "seen, other",
    "no_hit": "not seen",
}
"""The classes in words, but for numbers."""


def class_words(row: pd.Series) -> str:
    """The class of a row of `class_table` in words."""
    partition, name = row["partition"], row["class"]
    return f"{PARTITIONS.get(partition, partition)}: {CLASSES.get(name, name)}"


def extremes(table: ItemTable) -> pd.DataFrame:
    """The rows of lowest and of highest loss against the baseline, which are one where there is but one."""
    compared = table.rows[(table.rows["pattern"] != BASELINE) & (table.rows["pairs"] > 0)].sort_values("delta")
    return compared.iloc[[0, -1]].drop_duplicates(["setting", "pattern"])


def class_deltas(table: ItemTable) -> pd.DataFrame:
    """One row a seed pair and class; columns partition, class, pattern, setting, seed and delta, in nats per token."""
    rows = [
        {
            **{name: record[name] for name in ("setting", "pairing", "seed")},
            "pattern": record["pattern"]["label"],
            "partition": partition,
            "class": name,
            "value": sums["nll"] / sums["tokens"],
        }
        for record in table.records
        for partition, classes in (record["classes"] or {}).items()
        for name, sums in classes.items()
        if sums["tokens"]
    ]
    columns = ["setting", "pairing", "seed", "pattern", "partition", "class", "value"]
    values = pd.DataFrame(rows, columns=columns)
    values["where"] = list(zip(values["setting"], values["partition"], values["class"], strict=True))
    deltas = paired_deltas(values, "where")
    places = pd.DataFrame(deltas.pop("where").tolist(), columns=["setting", "partition", "class"], index=deltas.index)
    return pd.concat([places, deltas], axis=1)


def class_table(table: ItemTable) -> pd.DataFrame:
    """One row a setting, pattern and class: mean delta with its 95 % t-interval over `pairs`, and the tokens there."""
    tokens = {
        (partition, name): sums["tokens"]
        for record in table.records
        for partition, classes in (record["classes"] or {}).items()
        for name, sums in classes.items()
    }
    rows = []
    for key, group in class_deltas(table).groupby(["setting", "pattern", "partition", "class"], sort=False):
        interval = paired_interval(group["delta"])
        rows.append(
            {
                **dict(zip(("setting", "pattern", "partition", "class"), key, strict=True)),
                **{"tokens": tokens[key[2], key[3]], "delta": interval.mean},
                **{"delta_low": interval.low, "delta_high": interval.high, "pairs": interval.n},
            }
        )
    names = ["setting", "pattern", "partition", "class", "tokens", "delta", "delta_low", "delta_high", "pairs"]
    return pd.DataFrame(rows, columns=names)
