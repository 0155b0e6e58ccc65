"""The table of diversity beside its values taken from `heads.parquet` by hand."""

import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.diversity_table import ALL, MEASURES, diversity_table, render_markdown
from analysis.figures import open_settings
from analysis.report import write_report
from sla_ablate.runs.record import write_record


@pytest.fixture
def data(analyzed):
    (data,) = open_settings(analyzed).values()
    return data


def values(data, measure):
    """[pattern, seed, layer]."""
    t = data.heads
    t = t[(t["metric"] == measure) & t["position"].isna() & t["other_layer"].isna()]
    t = t[t["head"].notna()] if measure == "normalised_entropy" else t[t["role"].isna()]
    return np.array(
        [
            [[t[(t["pattern"] == p) & (t["seed"] == s) & (t["layer"] == layer)]["value"].mean() for layer in (0, 1)]
             for s in range(3)]
            for p in ("baseline", "skip")
        ]
    )  # fmt: skip


def test_differences_are_paired_by_seed_with_t_intervals(data):
    table = diversity_table(data).set_index(["measure", "layer"])
    assert len(table) == 3 * len(MEASURES)
    for measure in MEASURES:
        baseline, skip = values(data, measure)
        for layer, delta in (
            (0, (skip - baseline)[:, 0]),
            (1, (skip - baseline)[:, 1]),
            (ALL, (skip - baseline).mean(1)),
        ):
            row = table.loc[(measure, layer)]
            half = stats.t.ppf(0.975, 2) * delta.std(ddof=1) / np.sqrt(3)
            expected = [delta.mean(), delta.mean() - half, delta.mean() + half]
            np.testing.assert_allclose(row[["delta", "delta_low", "delta_high"]].astype(float), expected)
            assert row["pairs"] == 3
        assert table.loc[(measure, ALL), "baseline"] == pytest.approx(baseline.mean())
        # One test for the mean over the layers; two that share their chance of a false one for the layers.
        p = stats.ttest_rel(skip, baseline).pvalue
        assert table.loc[(measure, ALL), "p_holm"] == pytest.approx(
            stats.ttest_rel(skip.mean(1), baseline.mean(1)).pvalue
        )
        assert min(table.loc[(measure, 0), "p_holm"], table.loc[(measure, 1), "p_holm"]) == pytest.approx(
            min(1, 2 * p.min())
        )


def test_what_is_resolved_is_bold_and_the_loss_stands_beside(data, monkeypatch):
    heads = data.heads.copy()
    layer_1 = (heads["metric"] == "effective_heads") & (heads["layer"] == 1).fillna(False)
    heads.loc[layer_1, "value"] = heads["seed"] / 10 + (heads["pattern"] == "skip") * (1 + heads["seed"] / 1000)
    monkeypatch.setitem(data.__dict__, "heads", heads)
    lines = render_markdown(data).splitlines()
    bold = [line for line in lines if line.startswith("|") and "**" in line]
    assert bold == [line for line in lines if line.startswith("| 1 ") and "+1.0010" in line]
    assert not any("correlation" in line for line in lines)  # three pairs are too few


def test_the_correlation_with_the_loss_is_over_all_pairs(data, record, monkeypatch):
    more = [{**r, "run_id": r["run_id"] + "b", "pattern": record("other")["pattern"]} for r in data.records
            if r["pattern"]["label"] != "baseline"]  # fmt: skip
    heads = data.heads
    others = heads[heads["pattern"] == "skip"].assign(pattern="other")
    others["run"] += "b"
    others.loc[others["metric"] == "generalised_jsd", "value"] *= 2
    monkeypatch.setitem(data.__dict__, "heads", pd.concat([heads, others], ignore_index=True))
    data.records.extend(more)
    nats = {(r["pattern"]["label"], r["seed"]): sum(r["results"]["validation"]["nll"]) / 100 for r in data.records}
    baseline, skip = values(data, "generalised_jsd").mean(2)
    change = np.concatenate([2 * skip - baseline, skip - baseline])
    loss = [nats[p, s] - nats["baseline", s] for p in ("other", "skip") for s in range(3)]
    text = render_markdown(data)
    assert f"correlation {stats.pearsonr(change, loss).statistic:+.2f} [" in text
    assert "Over the 6 seed pairs" in text


def test_a_report_of_an_analyzed_sweep_has_it(analyzed, tmp_path):
    write_report(analyzed, tmp_path)
    (data,) = open_settings(analyzed).values()
    assert (tmp_path / "diversity.md").read_text() == render_markdown(data)


def test_runs_that_were_not_measured_are_named_and_the_others_told(analyzed, tmp_path, record):
    folder = shutil.copytree(analyzed, tmp_path / "sweep")
    new = record("skip", 7)
    (folder / new["run_id"]).mkdir()
    write_record(folder / new["run_id"], new)
    write_report(folder)
    text = (folder / "report" / "diversity.md").read_text()
    assert "(n = 3)" in text
    assert text.endswith("Not analyzed, so not in these tables: skip-s7-s1.\n")


def test_without_a_baseline_there_is_a_sentence(analyzed, tmp_path):
    folder = shutil.copytree(analyzed, tmp_path / "sweep")
    for run in folder.glob("baseline-*"):
        shutil.rmtree(run)
    write_report(folder)
    assert (folder / "report" / "diversity.md").read_text().count("no such pair of analyzed runs") == 1
