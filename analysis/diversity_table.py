"""Are heads more different under a pattern than without it, in which layers, and does it go with the loss?"""

from __future__ import annotations

import pandas as pd
from scipy import stats

from analysis.comparison import BASELINE, paired_deltas, seed_differences
from analysis.statistics import holm, paired_interval, paired_p_value
from analysis.sweep_data import SweepData
from sla_ablate.text import escape

MEASURES = {
    "generalised_jsd": "Generalised JSD of the heads, in nats (0: all heads look alike)",
    "effective_heads": "Effective number of heads",
    "normalised_entropy": "Entropy of a head as a share of ln(keys seen), mean over heads (1: all keys alike)",
}
"""What is compared, by its name in `heads.parquet`. Diffuse heads look alike, so entropy stands beside divergence."""
ALL = "all"
"""What stands in the place of a layer for the mean over the layers."""


COLUMNS = ("measure", "layer", "pattern", "baseline", "delta", "delta_low", "delta_high", "pairs", "p_holm")


def diversity_table(data: SweepData) -> pd.DataFrame:
    """One row a measure, layer and pattern, and one for the mean over the layers (`layer` is `ALL`).

    Columns: measure, layer, pattern, baseline (mean over its runs), delta with its 95 % t-interval (delta_low,
    delta_high) over `pairs` seed pairs, and p_holm: the paired t test's p, Holm-adjusted over the patterns for the
    means over the layers, and over layers and patterns together for single layers.
    """
    rows = []
    for measure in MEASURES:
        table = _with_mean(data.by_layer(measure))
        ordinary = table[table["pattern"] == BASELINE].groupby("layer")["value"].mean().to_dict()
        groups = paired_deltas(table, "layer").groupby(["layer", "pattern"], sort=False)["delta"]
        for (layer, pattern), deltas in groups:
            interval = paired_interval(deltas)
            rows.append(
                {
                    **{"measure": measure, "layer": layer, "pattern": pattern, "baseline": ordinary[layer]},
                    **{"delta": interval.mean, "delta_low": interval.low, "delta_high": interval.high},
                    **{"pairs": interval.n, "p_holm": paired_p_value(deltas)},
                }
            )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    families = [table["measure"], table["layer"] == ALL]
    return table.assign(p_holm=table.groupby(families)["p_holm"].transform(holm))


def render_markdown(data: SweepData) -> str:
    """`diversity_table` for people, and how the change of the heads goes with the change of the loss."""
    table = diversity_table(data)
    if table.empty:
        return "Heads are compared with the baseline's of the same seed: there is no such pair of analyzed runs.\n"
    blocks = [
        "Δ: pattern minus the baseline of the same seed, mean and 95 % t-interval over seed pairs"
        f" ({_counts(table['pairs'])}). **Bold**: p below .05 after Holm's adjustment, over the patterns in the row of"
        " all layers, over all cells of the other rows."
    ]
    for measure, title in MEASURES.items():
        mine = table[table["measure"] == measure]
        rows = mine.assign(cell=mine.apply(_cell, axis=1)).pivot(index="layer", columns="pattern", values="cell")
        rows = rows.loc[mine["layer"].unique(), mine["pattern"].unique()]
        baseline = mine.groupby("layer")["baseline"].first().loc[rows.index].map("{:.4f}".format)
        rows = rows.rename(columns=escape.markdown).add_prefix("Δ ")
        rows.insert(0, BASELINE, baseline)
        align = ["left", *["right"] * len(rows.columns)]
        blocks += [f"### {title}", rows.to_markdown(disable_numparse=True, colalign=align)]
    lacking = (
        [f"Not analyzed, so not in these tables: {escape.markdown(', '.join(data.unmeasured))}."]
        if data.unmeasured
        else []
    )
    return "\n\n".join([*blocks, *_with_the_loss(data), *lacking]) + "\n"


def _with_mean(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the mean over each run's layers added."""
    means = table.groupby(["run", "pattern", "seed", "pairing"], sort=False)["value"].mean().reset_index()
    return pd.concat([table.astype({"layer": object}), means.assign(layer=ALL)], ignore_index=True)


def _cell(row: pd.Series) -> str:
    if row["pairs"] < 2:
        return f"{row['delta']:+.4f}"
    text = f"{row['delta']:+.4f} [{row['delta_low']:+.4f}, {row['delta_high']:+.4f}]"
    return f"**{text}**" if row["p_holm"] < 0.05 else text


def _counts(pairs: pd.Series) -> str:
    return ", ".join(f"n = {n}" for n in sorted(set(pairs)))


def _with_the_loss(data: SweepData) -> list[str]:
    """A sentence on the correlation over all seed pairs, if there are enough."""
    change = paired_deltas(_with_mean(data.by_layer("generalised_jsd")), "layer")
    pairs = change[change["layer"] == ALL].merge(seed_differences(data.records), on=["pattern", "seed"])
    if len(pairs) < 4 or pairs[["delta_x", "delta_y"]].nunique().min() < 2:
        return []
    r = stats.pearsonr(pairs["delta_x"], pairs["delta_y"])
    low, high = r.confidence_interval()
    return [
        "### Does it go with the loss?",
        f"Over the {len(pairs)} seed pairs of all patterns, Δ generalised JSD (mean over layers) and Δ nats per token"
        f" have the correlation {r.statistic:+.2f} [{low:+.2f}, {high:+.2f}] (Pearson, 95 % interval by Fisher's"
        " transform, which takes the pairs as independent; those of one seed share their baseline).",
    ]
