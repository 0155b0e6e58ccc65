"""The table of an item: measured beside published, one row a pattern and setting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

import pandas as pd

from analysis.comparison import BASELINE, RUN_COLUMNS, comparison_table, paired_deltas, runs_table
from analysis.evidence import distinct
from analysis.items.equal_cache import NarrowerBaselines
from analysis.items.worth import Curves
from analysis.statistics import Interval
from sla_ablate.items.item import Item
from sla_ablate.items.lines import Line, processor_of, record_of
from sla_ablate.items.published import Published
from sla_ablate.runs.swept import values_of


@dataclass(frozen=True)
class ItemTable:
    """What was measured for an item at a scale, in one schema, on one corpus and in one precision."""

    item: Item
    scale: str
    lines: Sequence[Line]
    """Its runs; of a run that was carried out on two kinds of processor both."""
    baselines: Sequence[Line] = ()
    """Runs of the baseline, of this item or another, from which it is told what a difference is worth."""

    @property
    def done(self) -> list[Line]:
        """The lines of the runs that did not diverge."""
        return [line for line in self.lines if line["state"] == "done"]

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The lines in the form of records, as `distinct` has them."""
        return distinct(map(record_of, self.lines))

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One row a setting and pattern: the item's key columns, then those of `analysis.comparison.comparison_table`,
        then `published_loss` and `published_delta`, then what the difference is worth: `worth` with its interval
        (`worth_low`, `worth_high`), `delta_at_equal_flops`, `delta_at_equal_cache` with its interval
        (`delta_at_equal_cache_low`, `delta_at_equal_cache_high`), and `processors`, with the runs on each.

        Rows are in the order of the keys, the baseline first where none of them tells it from the others.
        """
        table = comparison_table(self.records)
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for record in self.records:
            groups.setdefault((record["setting"], record["pattern"]["label"]), []).append(record)
        runs = [groups[key] for key in zip(table["setting"], table["pattern"], strict=True)]
        found = [group[0] for group in runs]
        keys = pd.DataFrame([{key: values.get(key) for key in self.item.rows} for values in map(values_of, found)])
        table = table.drop(columns=[key for key in self.item.rows if key in table])  # which come first
        published = pd.DataFrame([_beside(self.item.published, record) for record in found])
        rows = pd.concat([keys, table, published], axis=1)
        narrower = NarrowerBaselines(self.baselines)
        done = [[run for run in group if run["state"] == "done"] for group in runs]
        worth = [
            {**self.curves.worth(group, delta), **_prefixed("delta_at_equal_cache", narrower.delta(group))}
            for group, delta in zip(done, rows["delta"], strict=True)
        ]
        rows = pd.concat([rows, pd.DataFrame(worth)], axis=1)
        rows["processors"] = [_counted(group) for group in runs]
        rows["is_skip"] = rows["pattern"] != BASELINE
        own = [key for key in self.item.rows if not key.startswith("pattern.")]
        order = [*own, "is_skip", *(key for key in self.item.rows if key not in own)]
        if self.item.rows:
            rows = rows.sort_values(order, na_position="first", kind="stable")
        return rows.drop(columns="is_skip").reset_index(drop=True)

    @cached_property
    def curves(self) -> Curves:
        """The baseline's losses over training lengths."""
        return Curves(self.baselines)

    @cached_property
    def losses(self) -> pd.DataFrame:
        """One row a run: columns of `analysis.comparison.runs_table` and the item's key columns."""
        runs = runs_table(self.records)[list(RUN_COLUMNS)]
        return runs.merge(self.rows[[*self.item.rows, "setting", "pattern"]])

    @cached_property
    def deltas(self) -> pd.DataFrame:
        """One row a seed pair: the item's key columns, setting, pattern, seed and delta in nats per token."""
        table = runs_table(self.records).rename(columns={"nats_per_token": "value"})
        pairs = paired_deltas(table, "setting")
        keys = self.rows[[*self.item.rows, "setting", "pattern"]]
        return pairs.merge(keys, on=["setting", "pattern"])

    def deltas_of(self, row: pd.Series) -> pd.Series[float]:
        """The differences of the seed pairs of one of `rows`."""
        mine = (self.deltas["pattern"] == row["pattern"]) & (self.deltas["setting"] == row["setting"])
        deltas: pd.Series[float] = self.deltas.loc[mine, "delta"]
        return deltas

    @cached_property
    def head_deltas(self) -> pd.DataFrame:
        """`deltas` of measured pairs, with `heads`: Δ generalised JSD of the heads in nats, mean over layers."""
        measured = [record for record in self.records if record["heads"]]
        values = {
            (record["run_id"], record["pairing"]): fmean(record["heads"]["layers"]["generalised_jsd"])
            for record in measured
        }
        table = runs_table(measured)
        table["value"] = [values[key] for key in zip(table["run_id"], table["pairing"], strict=True)]
        heads = paired_deltas(table, "setting").rename(columns={"delta": "heads"})
        return self.deltas.merge(heads, on=["pattern", "seed", "setting"])

    @cached_property
    def processors(self) -> list[str]:
        """The kinds of processor of its runs."""
        return sorted({processor_of(line) for line in self.lines})

    @property
    def precision(self) -> str:
        """What the runs were trained in."""
        return str(self.lines[0]["environment"]["precision"])


def item_tables(item: Item, scale: str, lines: Iterable[Line], baselines: Sequence[Line] = ()) -> list[ItemTable]:
    """The tables of an item's lines, those in which a run is done, the one with the most runs first.

    Args:
        item: the item.
        scale: at which it was measured.
        lines: its runs.
        baselines: runs of the baseline, of other items too.
    """
    families: dict[tuple[Any, ...], list[Line]] = {}
    for line in lines:
        families.setdefault((line["schema"], line["data"], line["environment"]["precision"]), []).append(line)
    tables = [ItemTable(item, scale, group, baselines) for group in families.values()]
    return sorted((table for table in tables if table.done), key=lambda table: len(table.lines), reverse=True)


def verdict(row: pd.Series) -> str:
    """What the paired test, after Holm's adjustment, says of a row's difference: lower, higher or not resolved."""
    if not row["p_holm"] < 0.05:  # nor where there is none
        return "not resolved"
    return "lower" if row["delta"] < 0 else "higher"


def _prefixed(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _counted(runs: Iterable[Mapping[str, Any]]) -> str:
    """The kinds of processor of some runs; if there are several, each with its number of runs."""
    counts = Counter(processor_of(dict(run)) for run in runs)
    return ", ".join(counts if len(counts) == 1 else (f"{kind} ({n})" for kind, n in sorted(counts.items())))


def _beside(published: Sequence[Published], record: Mapping[str, Any]) -> dict[str, float | None]:
    """The published values for a run's tables; those of another model's size stand under the table only."""
    tables = {name: record["pattern"][name] for name in ("key_source", "value_source")}
    for value in published:
        pattern = value.skip_pattern
        if pattern is not None and tables == {
            "key_source": pattern.key_source.tolist(),
            "value_source": pattern.value_source.tolist(),
        }:
            return {"published_loss": value.loss, "published_delta": value.delta}
    return {"published_loss": None, "published_delta": None}
