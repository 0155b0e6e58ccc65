"""The tables of a sweep: one row per run, one row per pattern, and the latter as Markdown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.evidence import BASELINE, ENDED, Record, counted_once, distinct, is_baseline
from analysis.measured_on import measured_on
from analysis.perplexity import Totals
from analysis.power import MOST_PAIRS, POWER
from analysis.statistics import (
    Interval,
    document_bootstrap,
    holm,
    paired_interval,
    paired_p_value,
    pairs_needed,
)
from sla_ablate.runs import swept
from sla_ablate.text import escape

METRICS = ("nats_per_token", "perplexity", "bits_per_byte")
COSTS = ("parameters", "parameters_read", "training_flops_per_token", "kv_cache_bytes_per_token")
_WHOLE_COSTS = tuple(cost for cost in COSTS if "flops" not in cost)
RUN_COLUMNS = (
    *("run_id", "setting", "pairing", "pattern", "seed", *METRICS, "byte_perplexity", "word_perplexity", *COSTS),
    *("tokens", "tokens_per_second", "seconds", "precision"),
)
COMPARISON_COLUMNS = (
    *("setting", "pattern", "runs", "diverged"),
    *(f"{metric}_{part}" for metric in METRICS for part in ("mean", "std")),
    *("delta", "delta_low", "delta_high", "pairs", "p", "p_holm", "pairs_needed", *COSTS),
)


def by_setting(records: Iterable[Record]) -> dict[str, list[Record]]:
    """The records of each setting (all that determines a result but pattern and seed), in given order."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record["setting"], []).append(record)
    return groups


def runs_table(records: Sequence[Record]) -> pd.DataFrame:
    """One row per done run of `distinct`, columns `RUN_COLUMNS`: identity, results on validation, costs, speed.

    After the seed there is a column for each key that was swept, `sla_ablate.runs.swept.columns`.

    Raises:
        InputError: two patterns have one label.
    """
    done = _done(distinct(records))
    table = pd.DataFrame([_run_row(record) for record in done], columns=list(RUN_COLUMNS))
    return with_swept(table, "seed", swept.columns(done))


def with_swept(table: pd.DataFrame, after: str, values: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A table with the columns of `swept.columns`, of nullable types, after one of its own."""
    place = list(table.columns).index(after) + 1
    keys = pd.DataFrame(list(values), index=table.index).convert_dtypes()
    return pd.concat([table.iloc[:, :place], keys, table.iloc[:, place:]], axis=1)


def seed_differences(records: Sequence[Record]) -> pd.DataFrame:
    """Every pattern's nats per token minus the baseline's, one row per pair of done runs.

    A pair shares its `pairing`: seed, initial weights, batches. Columns: setting, pattern, seed, delta.
    """
    return paired_deltas(runs_table(records).rename(columns={"nats_per_token": "value"}), "setting")


def paired_deltas(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Values minus the baseline's of the same pairing and the same `by`; columns pattern, seed, `by`, delta.

    Args:
        table: columns pattern, seed, pairing, value and `by`, one row each.
        by: what else a pair must share, such as its layer.
    """
    ordinary = table["pattern"] == BASELINE
    pairs = table[~ordinary].merge(table.loc[ordinary, ["pairing", by, "value"]], on=["pairing", by])
    return pairs.assign(delta=pairs["value_x"] - pairs["value_y"])[["pattern", "seed", by, "delta"]]


def comparison_table(records: Sequence[Record], order: Sequence[str] = ()) -> pd.DataFrame:
    """One row per setting and pattern, columns `COMPARISON_COLUMNS`, all but the names numeric.

    After the pattern there is a column for each key that was swept, as in `runs_table`.

    Patterns and runs are those of `distinct`. Rows: settings in given order; in each the baseline, then those of
    `order` as they stand there, then the others by mean loss. `runs` are the done ones, which `_mean` and `_std`
    (ddof 1) are over; `diverged` are others, which have no numbers. `delta` is the mean of `seed_differences`, in nats
    per token, with its 95 % t-interval over `pairs` seed pairs; `p` that of the paired t test, `p_holm` the same,
    Holm-adjusted over the patterns of the setting; `pairs_needed` as in `analysis.statistics`. What too few runs leave
    undefined is NaN.
    """
    records = [record for record in distinct(records) if record["state"] in ENDED]
    every_run, differences = runs_table(records), seed_differences(records)
    diverged = Counter(_row_of(record) for record in records if record["state"] == "diverged")
    keys = dict(reversed(list(zip(map(_row_of, records), swept.columns(records), strict=True))))  # of the first run
    rows = []
    row_names = dict.fromkeys(map(_row_of, records))
    for setting, pattern in row_names:
        runs, pairs = (
            table[(table["setting"] == setting) & (table["pattern"] == pattern)] for table in (every_run, differences)
        )
        delta = pairs["delta"].to_numpy()
        interval = paired_interval(delta) if delta.size else Interval(math.nan, math.nan, math.nan, 0)
        rows.append(
            {
                "setting": setting,
                "pattern": pattern,
                "runs": len(runs),
                "diverged": diverged[setting, pattern],
                **{f"{metric}_mean": runs[metric].mean() for metric in METRICS},
                **{f"{metric}_std": runs[metric].std() for metric in METRICS},
                "delta": interval.mean,
                "delta_low": interval.low,
                "delta_high": interval.high,
                "pairs": interval.n,
                "p": paired_p_value(delta),
                "pairs_needed": pairs_needed(delta),
                **{cost: runs[cost].iloc[0] if len(runs) else None for cost in COSTS},
            }
        )
    table = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))
    table = table.astype({"training_flops_per_token": float, **dict.fromkeys(_WHOLE_COSTS, "Int64")})
    table["p_holm"] = table.groupby("setting")["p"].transform(holm)
    table = with_swept(table, "pattern", [keys[name] for name in row_names])
    settings = list(by_setting(records))
    places = {BASELINE: -1, **{label: place for place, label in enumerate(order)}}
    ranks = table.assign(
        setting=table["setting"].map(settings.index), pattern=table["pattern"].map(lambda p: places.get(p, len(places)))
    )
    ranked = ranks.sort_values(["setting", "pattern", "nats_per_token_mean"]).index  # NaN last
    return table.loc[ranked].reset_index(drop=True)


def as_csv(table: pd.DataFrame) -> bytes:
    """A table as a CSV file, in which a spreadsheet finds no formulae."""
    return table.map(lambda value: escape.csv(value) if isinstance(value, str) else value).to_csv(index=False).encode()


def render_markdown(records: Sequence[Record], order: Sequence[str] = ()) -> str:
    """One Markdown table per setting, each with the lines that one needs to read it; rows as of `comparison_table`.

    Several settings get a heading each, which names the configuration keys that tell them apart.
    """
    told = swept.titles(records)
    sections = []
    for setting, group in by_setting(records).items():
        heading = [f"## {escape.markdown(told[setting])}"] if len(told) > 1 else []
        sections += [*heading, *_section(group, order)]
    return "\n\n".join(sections) + "\n"


def count_states(records: Sequence[Record]) -> str:
    """How many runs are not done, by state and pattern; empty if all are done."""
    unfinished = [record for record in records if record["state"] != "done"]
    parts = []
    for state, count in Counter(record["state"] for record in unfinished).items():
        labels = [record["pattern"]["label"] for record in unfinished if record["state"] == state]
        parts.append(f"{count} {state} ({'; '.join(dict.fromkeys(labels))})")
    return ", ".join(parts)


def _done(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record["state"] == "done"]


def _row_of(record: Record) -> tuple[str, str]:
    return record["setting"], record["pattern"]["label"]


def _run_row(record: Record) -> dict[str, Any]:
    totals = Totals.of(record["results"]["validation"])
    cost = record["cost"]
    return {
        **{name: record[name] for name in ("run_id", "setting", "pairing", "seed")},
        "pattern": record["pattern"]["label"],
        **{name: getattr(totals, name) for name in (*METRICS, "byte_perplexity", "word_perplexity")},
        **{name: cost[name] for name in (*COSTS, "tokens", "tokens_per_second", "seconds")},
        "precision": record["environment"]["precision"],
    }


def _section(records: Sequence[Record], order: Sequence[str]) -> list[str]:
    """The blocks of one setting: table, legend, marks, runs left out."""
    runs = distinct(records)
    table = comparison_table(runs, order)
    if done := _done(runs):
        blocks = [_body(table, runs), _legend(table, done), *_remarks(table, done)]
    else:
        blocks = ["No run is done."]
    return blocks + list(map(escape.markdown, notes_of(table, records)))


def notes_of(table: pd.DataFrame, records: Sequence[Record]) -> list[str]:
    """Sentences on runs of a setting: of changed code, not in its table, or there under another name."""
    runs = distinct(records)
    notes = [*_changed(_done(runs)), *_diverged(table, runs)]
    if states := count_states([record for record in runs if record["state"] != "diverged"]):
        notes.append(f"Not in the table: {states}.")
    return notes + _names(records)


def _diverged(table: pd.DataFrame, records: Sequence[Record]) -> list[str]:
    """A sentence on the runs that diverged and the pairs that are lost with them, if there are any."""
    rows = table[table["diverged"] > 0]
    if rows.empty:
        return []
    seeds = [
        f"{row['diverged']} of {row['diverged'] + row['runs']} seeds of {row['pattern']}" for _, row in rows.iterrows()
    ]
    states = {(record["pattern"]["label"], record["pairing"]): record["state"] for record in records}
    lost = Counter(
        label
        for (label, pairing), state in states.items()
        if label != BASELINE and "diverged" in (pair := {state, states.get((BASELINE, pairing))}) and pair <= set(ENDED)
    )
    remark = f"Diverged: {'; '.join(seeds)}. Numbers are of the other runs, which flatters a pattern that diverges."
    if lost:
        remark += f" Pairs left out with them: {'; '.join(f'{n} of {label}' for label, n in lost.items())}."
    return [remark]


def _changed(records: Sequence[Record]) -> list[str]:
    """A sentence on the runs whose code is in no commit, if there are any."""
    sittings = {record["run_id"]: record.get("sittings", []) for record in records}
    runs = [run for run, each in sittings.items() if any(sitting.get("git_changes") for sitting in each)]
    if not runs:
        return []
    which = "All runs" if len(runs) == len(records) else f"{len(runs)} of {len(records)} runs"
    names = "" if len(runs) == len(records) else f" ({', '.join(runs)})"
    return [f"{which} were made by code with changes that are in no commit{names}."]


def _names(records: Sequence[Record]) -> list[str]:
    """Sentences on patterns and runs that were given under several names, if there are any."""
    remarks = []
    baselines = dict.fromkeys(record["pattern"]["label"] for record in records if is_baseline(record))
    if others := [label for label in baselines if label != BASELINE]:
        remarks.append(f"The same tables as {BASELINE}, and in its row: {'; '.join(others)}.")
    if twice := counted_once(records):
        remarks.append(f"The same runs as others, under another name, and not counted twice: {', '.join(twice)}.")
    return remarks


def _body(table: pd.DataFrame, records: Sequence[Record]) -> str:
    cells = cells_of(table, records, escape.markdown, "**{}**".format)
    align = ["left", *["right"] * (len(cells.columns) - 1)]
    return cells.to_markdown(index=False, disable_numparse=True, colalign=align)


def cells_of(
    table: pd.DataFrame, records: Sequence[Record], escaped: Callable[[str], str], strong: Callable[[str], str]
) -> pd.DataFrame:
    """The rows of `comparison_table` in words, for people.

    Args:
        table: of one setting.
        records: of its runs.
        escaped: makes a label what the medium shows as text.
        strong: marks the best mean.
    """
    own = any(record["config"].get("pattern", {}).get("label") for record in records)  # which do not tell options
    keys = [key for key in map(str, table) if key.startswith("pattern.")] if own else []
    return pd.DataFrame(
        {
            "Pattern": table["pattern"].map(escaped),
            **{escaped(key): _cells(table[key], "") for key in keys},
            "Runs": [
                f"{n} ({d} diverged)" if d else f"{n}" for n, d in zip(table["runs"], table["diverged"], strict=True)
            ],
            "Nats/token ↓": _mean_std(table, "nats_per_token", ".4f", strong),
            "Perplexity ↓": _mean_std(table, "perplexity", ".2f", strong),
            "Bits/byte ↓": _mean_std(table, "bits_per_byte", ".4f", strong),
            "Δ nats/token to baseline ↓": [_delta(row) for _, row in table.iterrows()],
            "Pairs": table["pairs"].map(str).mask(table["pattern"] == BASELINE, "–"),
            "p (Holm)": table["p_holm"].map(_p),
            "Parameters ↓": _cells(table["parameters"], ","),
            "Parameters read ↓": _cells(table["parameters_read"], ","),
            "Training MFLOPs/token ↓": _cells(table["training_flops_per_token"] / 1e6, ",.2f"),
            "KV-cache bytes/token ↓": _cells(table["kv_cache_bytes_per_token"], ","),
        }
    )


def _cells(values: pd.Series, spec: str) -> list[str]:
    return ["–" if pd.isna(value) else f"{value:{spec}}" for value in values]


def _mean_std(table: pd.DataFrame, metric: str, spec: str, strong: Callable[[str], str]) -> list[str]:
    means, stds = table[f"{metric}_mean"], table[f"{metric}_std"]
    cells = []
    for mean, std, plain in zip(means, stds, _cells(means, spec), strict=True):
        text = strong(plain) if mean == means.min() else plain
        cells.append(text if math.isnan(std) else f"{text} ± {std:{spec}}")
    return cells


def _delta(row: pd.Series) -> str:
    if not row["pairs"]:
        return "–"
    if row["pairs"] == 1:
        return f"{row['delta']:+.4f} (no interval)"
    mark = " †" if _unresolved(row) else ""
    return f"{row['delta']:+.4f} [{row['delta_low']:+.4f}, {row['delta_high']:+.4f}]{mark}"


def _unresolved(row: pd.Series) -> bool:
    return bool(row["delta_low"] <= 0 <= row["delta_high"])


def _p(p: float) -> str:
    if math.isnan(p):
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _legend(table: pd.DataFrame, records: Sequence[Record]) -> str:
    validation = [record["results"]["validation"] for record in records]
    runs = sorted(set(table["runs"]))
    n = f"n = {runs[0]} seed{'s' if runs[0] > 1 else ''}" if len(runs) == 1 else "n seeds as in column Runs"
    legend = (
        f"Validation, mean ± standard deviation over {n}; "
        f"stride {escape.markdown(_unique(v['stride'] for v in validation))}, "
        f"start token {escape.markdown_code(_unique(v['start_token'] for v in validation))}; "
        f"scored in float32. {escape.markdown(measured_on(records))} "
        "↓ lower is better; the best mean is bold."
    )
    if table["pairs"].any():
        legend += " Δ: pattern minus the baseline of the same seed, initial weights and batches."
    if table["pairs"].max() > 1:
        legend += (
            " Brackets: 95 % t-intervals over these seed-paired differences;"
            " p: two-sided paired t test, Holm-adjusted over the patterns of this table."
        )
    return legend


def _remarks(table: pd.DataFrame, records: Sequence[Record]) -> list[str]:
    """What must be said about the differences of this table."""
    table = table[table["runs"] > 0]
    others = table[table["pattern"] != BASELINE]
    if BASELINE not in set(table["pattern"]):
        return ["No baseline run is done in this setting: there is nothing to take differences to."]
    remarks = []
    if needed := [
        f"{_needed(row)} for {escape.markdown(row['pattern'])}" for _, row in others.iterrows() if _unresolved(row)
    ]:
        remarks.append(
            "† The interval includes 0: these seeds do not resolve the sign of the difference,"
            " which is not evidence that there is none."
            f" Seed pairs it would take to resolve the observed Δ with power {POWER}, were its mean and spread the true"
            f" ones: {'; '.join(needed)}. From few pairs these numbers are themselves very uncertain."
        )
    if len(lacking := others[others["pairs"] < 2]):
        whose = "any difference" if len(lacking) == len(others) else "; ".join(map(escape.markdown, lacking["pattern"]))
        remark = f"No interval exists for {whose}: it takes at least 2 seed pairs."
        single = {pattern: _over_documents(records, pattern) for pattern in others.loc[others["pairs"] == 1, "pattern"]}
        noise = [f"{escape.markdown(p)} [{i.low:+.4f}, {i.high:+.4f}]" for p, i in single.items() if i.exists]
        if noise:
            remark += (
                f" Test-set noise alone, without the noise of training: {'; '.join(noise)}"
                " (Δ of the one pair, 95 % paired bootstrap over documents)."
            )
        remarks.append(remark)
    return remarks


def _needed(row: pd.Series) -> str:
    n = row["pairs_needed"]
    return f"about {n:,.0f}" if math.isfinite(n) else f"over {MOST_PAIRS:,}"


def _over_documents(records: Sequence[Record], pattern: str) -> Interval:
    """The difference of a pattern's only seed pair, with its interval over resampled documents."""
    runs = {(record["pattern"]["label"], record["pairing"]): record["results"]["validation"] for record in records}
    ((ours, baseline),) = (
        (ours, runs[BASELINE, pairing])
        for (label, pairing), ours in runs.items()
        if label == pattern and (BASELINE, pairing) in runs
    )
    return document_bootstrap(ours["nll"], baseline["nll"], ours["tokens"])


def _unique(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))
