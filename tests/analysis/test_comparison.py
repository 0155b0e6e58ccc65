import csv
import io
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from analysis.comparison import (
    COMPARISON_COLUMNS,
    RUN_COLUMNS,
    comparison_table,
    render_markdown,
    runs_table,
    seed_differences,
)
from analysis.evidence import distinct
from sla_ablate.errors import InputError


def rows(markdown):
    """The table's rows by pattern, as {column: cell}."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {line[0]: dict(zip(cells[0], line, strict=True)) for line in cells[2:]}


DELTA = "Δ nats/token to baseline ↓"


def test_importing_analysis_is_light():
    heavy = {"torch", "pandas", "matplotlib", "scipy"}
    code = f"import sys, analysis; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_one_row_per_done_run(sweep, record):
    runs = runs_table([*sweep, record("worse", 3, state="failed")])
    assert tuple(runs.columns) == RUN_COLUMNS
    assert len(runs) == 9
    first = runs.iloc[0]
    assert first["nats_per_token"] == pytest.approx(2.0)
    assert first["perplexity"] == pytest.approx(math.exp(2.0))
    assert first["bits_per_byte"] == pytest.approx(200 / (400 * math.log(2)))
    assert first["word_perplexity"] == pytest.approx(math.exp(200 / 50))
    assert first["training_flops_per_token"] == 6e6
    assert first["precision"] == "bf16-mixed"


def test_differences_are_taken_within_seeds(sweep):
    differences = seed_differences(sweep)
    worse = differences[differences["pattern"] == "worse"].set_index("seed")["delta"]
    assert worse.to_dict() == pytest.approx({0: 0.05, 1: 0.06, 2: 0.05})
    assert "baseline" not in set(differences["pattern"])


def test_pairs_do_not_cross_settings(record):
    records = [record("baseline", 0, 2.0, setting="s1"), record("skip", 0, 2.5, setting="s2")]
    assert seed_differences(records).empty


def test_comparison_numbers(sweep):
    table = comparison_table(sweep)
    assert tuple(table.columns) == COMPARISON_COLUMNS
    row = table.set_index("pattern").loc["worse"]
    losses = [2.05, 2.16, 2.25]
    assert row["nats_per_token_mean"] == pytest.approx(np.mean(losses))
    assert row["nats_per_token_std"] == pytest.approx(np.std(losses, ddof=1))
    assert row["perplexity_mean"] == pytest.approx(np.mean(np.exp(losses)))  # over seeds, not documents
    test = stats.ttest_rel(losses, [2.00, 2.10, 2.20])
    expected = test.confidence_interval(0.95)
    assert (row["delta_low"], row["delta_high"]) == pytest.approx((expected.low, expected.high))
    assert row["p"] == pytest.approx(test.pvalue)
    assert row["p_holm"] == pytest.approx(2 * test.pvalue)  # the smaller of two
    assert (row["runs"], row["pairs"]) == (3, 3)
    assert row["pairs_needed"] == 3  # 0.0533 by a standard deviation of 0.0058


def test_baseline_first_then_by_mean_within_the_settings_as_given(record):
    losses = {"worst": 2.3, "alike": 2.1, "baseline": 2.2, "best": 2.0}
    records = [record(p, 0, nats, setting=s) for s in ("s2", "s1") for p, nats in losses.items()]
    table = comparison_table(records)
    assert list(table["setting"]) == ["s2"] * 4 + ["s1"] * 4
    assert list(table["pattern"]) == ["baseline", "best", "alike", "worst"] * 2


def test_the_csv_is_numeric_and_exact(sweep):
    table = comparison_table(sweep)
    numeric = [column for column in COMPARISON_COLUMNS if column not in ("setting", "pattern")]
    back = [
        [float(row[column] or "nan") for column in numeric]
        for row in csv.DictReader(io.StringIO(table.to_csv(index=False)))
    ]
    np.testing.assert_array_equal(back, table[numeric].to_numpy(float))


def diverged(record):
    """What is left of a record when its run diverged."""
    return {k: v for k, v in record.items() if k not in ("results", "cost")} | {"state": "diverged"}


def test_a_diverged_run_is_counted_and_its_pair_left_out(sweep, record):
    done = [r for r in sweep if r["run_id"] != "worse-s0-s1"]
    for lost in (diverged(record("worse", 0)), record("worse", 0, math.nan)):  # the latter as earlier versions had it
        table = comparison_table([*done, lost]).set_index("pattern")
        row = table.loc["worse"]
        assert (row["runs"], row["diverged"], row["pairs"]) == (2, 1, 2)
        assert row["nats_per_token_mean"] == pytest.approx(np.mean([2.16, 2.25]))
        expected = stats.ttest_rel([2.16, 2.25], [2.1, 2.2]).confidence_interval(0.95)
        assert (row["delta_low"], row["delta_high"]) == pytest.approx((expected.low, expected.high))
        assert list(table["diverged"]) == [0, 0, 1]
        text = render_markdown([*done, lost])
        assert rows(text)["worse"]["Runs"] == "2 (1 diverged)"
        assert "Diverged: 1 of 3 seeds of worse. " in text
        assert "Pairs left out with them: 1 of worse." in text
        assert "nan" not in text
        assert "Not in the table" not in text


def test_with_a_diverged_baseline_run_every_pattern_loses_its_pair(sweep, record):
    text = render_markdown([*sweep[1:], diverged(record("baseline", 0)), diverged(record("worse", 3))])
    assert {name: row["Pairs"] for name, row in rows(text).items()} == {
        "baseline": "–",
        "unresolved": "2",
        "worse": "2",
    }
    assert "Diverged: 1 of 3 seeds of baseline; 1 of 4 seeds of worse." in text
    assert "Pairs left out with them: 1 of worse; 1 of unresolved." in text  # there is no baseline of seed 3


def test_a_pattern_of_which_all_runs_diverged_is_a_row_without_numbers(sweep, record):
    records = [*sweep, *(diverged(record("late", seed)) for seed in range(3))]
    text = render_markdown(records)
    assert list(rows(text)) == ["baseline", "unresolved", "worse", "late"]
    pattern, runs, *others = rows(text)["late"].values()
    assert (pattern, runs, set(others)) == ("late", "0 (3 diverged)", {"–", "0"})  # the latter: pairs
    assert "Diverged: 3 of 3 seeds of late." in text
    assert "No interval exists" not in text
    table = comparison_table(records)
    lines = list(csv.DictReader(io.StringIO(table.to_csv(index=False))))
    assert [line["parameters"] for line in lines] == ["1234567", "1234567", "1234567", ""]
    assert lines[-1]["delta"] == lines[-1]["perplexity_mean"] == lines[-1]["p_holm"] == ""
    np.testing.assert_array_equal(table["p_holm"][:3], comparison_table(sweep)["p_holm"])  # no test was made of it


def test_nothing_but_diverged_runs_is_said(record):
    text = render_markdown([diverged(record("baseline", 0)), diverged(record("skip", 0))])
    assert text.startswith("No run is done.\n\nDiverged: 1 of 1 seeds of baseline; 1 of 1 seeds of skip.")


def called(record, label):
    """The same run under another name."""
    return {**record, "run_id": f"{label}-s{record['seed']}", "pattern": {**record["pattern"], "label": label}}


def test_the_same_tables_are_one_pattern_and_the_same_runs_one_run(sweep, record):
    more = [called(record("worse", seed, nats), "tables x") for seed, nats in ((1, 2.16), (2, 2.25), (3, 2.36))]
    records = [*sweep, *more, record("baseline", 3, 2.3)]
    table = comparison_table(records).set_index("pattern")
    assert list(table.index) == ["baseline", "unresolved", "worse, also tables x"]
    row = table.loc["worse, also tables x"]
    test = stats.ttest_rel([2.05, 2.16, 2.25, 2.36], [2.0, 2.1, 2.2, 2.3])
    assert (row["runs"], row["pairs"]) == (4, 4)
    assert row["p_holm"] == pytest.approx(2 * test.pvalue)  # the smaller of two, not of three
    expected = test.confidence_interval(0.95)
    assert (row["delta_low"], row["delta_high"]) == pytest.approx((expected.low, expected.high))
    assert len(seed_differences(records)) == 3 + 4
    assert list(runs_table(records)["pattern"]).count("worse, also tables x") == 4
    text = render_markdown(records)
    assert "under another name, and not counted twice: tables x-s1, tables x-s2." in text
    assert distinct(distinct(records)) == distinct(records)


def test_the_tables_of_the_baseline_are_the_baseline_whatever_they_are_called(sweep, record):
    records = [
        *sweep[1:],
        called(record("baseline", 0, 2.0), "tables x"),
        called(record("baseline", 1, 2.1), "tables x"),
    ]
    table = comparison_table(records)
    assert table.equals(comparison_table(sweep))
    assert "The same tables as baseline, and in its row: tables x." in render_markdown(records)


def test_of_the_same_run_that_which_is_done_counts(sweep, record):
    others = [called({**record("worse", seed), "state": "failed"}, "tables x") for seed in (1, 2)]
    text = render_markdown([*others, *sweep])
    assert rows(text)["tables x, also worse"]["Runs"] == "3"
    assert "Not in the table" not in text


def test_markdown_cells(sweep):
    table = rows(render_markdown(sweep))
    assert list(table) == ["baseline", "unresolved", "worse"]
    assert table["worse"]["Nats/token ↓"] == "2.1533 ± 0.1002"
    assert table["worse"][DELTA] == "+0.0533 [+0.0390, +0.0677]"
    assert table["unresolved"][DELTA] == "-0.0033 [-0.0320, +0.0254] †"
    assert table["baseline"][DELTA] == "–"
    assert table["worse"]["Parameters ↓"] == "1,234,567"
    assert table["worse"]["Parameters read ↓"] == "1,234,566"
    assert table["worse"]["Training MFLOPs/token ↓"] == "6.00"
    assert table["worse"]["KV-cache bytes/token ↓"] == "3,072"


def test_only_the_best_mean_is_bold(sweep):
    table = rows(render_markdown(sweep))
    assert table["unresolved"]["Nats/token ↓"] == "**2.0967** ± 0.1007"
    for row in (table["baseline"], table["worse"]):
        assert not any("**" in cell for cell in row.values())


def test_the_legend_says_how_it_was_measured(sweep):
    text = render_markdown(sweep)
    for part in (
        "n = 3 seeds",
        "2 layers × 2 heads × 8, context length 256",
        "3 steps of 1 sequences (1.00 M tokens), trained in bf16-mixed",
        "Corpus: books; validation on 100 tokens of 3 documents",
        "start token `<|endoftext|>`",
        "scored in float32",
        "95 % t-intervals over these seed-paired differences",
        "† The interval includes 0",
        "to resolve the observed Δ with power 0.8, were its mean and spread the true ones: about 97 for unresolved.",
    ):
        assert part in text
    assert "Not in the table" not in text
    assert "##" not in text


def test_no_mark_without_its_cause(sweep):
    assert "†" not in render_markdown([r for r in sweep if r["pattern"]["label"] != "unresolved"])


def test_one_pair_has_no_interval(record):
    text = render_markdown([record("baseline", 0, 2.0), record("skip", 0, 2.5)])
    assert rows(text)["skip"][DELTA] == "+0.5000 (no interval)"
    assert rows(text)["skip"]["p (Holm)"] == "–"
    assert "No interval exists for any difference" in text
    # Of three documents, one draw in 27 is thrice the first (+1.0 a token) and one thrice the last: both beyond 2.5 %.
    assert "Test-set noise alone, without the noise of training: skip [+0.4167, +1.0000]" in text
    assert "t-interval" not in text
    assert "n = 1 seed;" in text
    assert "nan" not in text


def test_a_pattern_short_of_pairs_is_named(sweep, record):
    text = render_markdown([*sweep, record("late", 0, 2.5)])
    assert "No interval exists for late:" in text
    assert "training: late [+0.4167, +1.0000]" in text
    assert "n seeds as in column Runs" in text
    assert "95 % t-intervals" in text


def test_a_missing_baseline_is_said(record):
    text = render_markdown([record("skip", 0, 2.5), record("skip", 1, 2.5)])
    assert "No baseline run is done" in text
    assert rows(text)["skip"][DELTA] == "–"


def test_a_lone_baseline_needs_no_remark(record):
    text = render_markdown([record("baseline", 0), record("baseline", 1)])
    assert "No " not in text


def test_runs_not_done_are_counted(sweep, record):
    unfinished = [
        record("worse", 3, state="failed"),
        record("worse", 4, state="failed"),
        record("baseline", 3, state="running"),
    ]
    text = render_markdown([*sweep, *unfinished])
    assert "Not in the table: 2 failed (worse), 1 running (baseline)." in text
    assert rows(text)["worse"]["Runs"] == "3"


def test_a_record_of_a_failed_run_needs_no_results(sweep, record):
    failed = record("skip", state="failed")
    del failed["results"], failed["cost"]
    assert "1 failed (skip)" in render_markdown([*sweep, failed])


def test_settings_get_a_table_each_named_by_what_differs(record):
    def pair(setting, model):
        return [
            record(label, seed, setting=setting, config={"model": model, "folder": f"{setting}-{label}-{seed}"})
            for label in ("baseline", "skip")
            for seed in (0, 1)
        ]

    shape = {"n_layer": 2, "n_head": 2, "n_embd": 8}
    short, long = {**shape, "block_size": 256, "dropout": None}, {**shape, "block_size": 512, "dropout": 0.1}
    text = render_markdown([*pair("s1", short), *pair("s2", long)])
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "## model.block_size=256, model.dropout=null",
        "## model.block_size=512, model.dropout=0.1",
    ]
    assert text.count("| Pattern") == 2


def test_a_heading_never_names_pattern_or_seed(record):
    text = render_markdown([record("baseline", 0, setting="s1"), record("skip", 1, setting="s2")])
    assert "## setting s1\n" in text
    assert "## setting s2\n" in text


def test_a_setting_without_a_done_run_still_appears(sweep, record):
    text = render_markdown([*sweep, record("skip", 0, setting="s2", state="running")])
    assert "## setting s2\n\nNo run is done.\n\nNot in the table: 1 running (skip)." in text


def test_two_patterns_of_one_name_are_not_in_one_table(record):
    first, second = record("zigzag", 0), record("zigzag", 1)
    assert len(runs_table([first, second])) == 2
    second["pattern"]["key_source"] = [[0, 0], [0, 0]]
    with pytest.raises(
        InputError, match="zigzag-s0-s1 and zigzag-s1-s1 have other tables and are both called 'zigzag'"
    ):
        runs_table([first, second])


def test_what_was_swept_is_a_column_null_where_it_has_no_effect(record):
    def of(called, **pattern):
        return record(called, config={"pattern": {"name": "sla", "distance": 1, "heads": 1, **pattern}})

    records = [of("baseline", name="baseline", distance=5), of("skip"), of("other", heads=2, label="Ours")]
    for table in (runs_table(records), comparison_table(records)):
        assert [key for key in table if key.startswith("pattern.")] == ["pattern.heads"]
        assert table.set_index("pattern")["pattern.heads"].dropna().to_dict() == {"skip": 1, "other": 2}
    assert rows(render_markdown(records))["skip"]["pattern.heads"] == "1"
    assert rows(render_markdown(records))["baseline"]["pattern.heads"] == "–"
    assert "pattern.heads" not in render_markdown(records[:2])


def test_runs_of_code_that_is_in_no_commit_are_told(record):
    first, second = record("baseline"), record("skip")
    assert "in no commit" not in render_markdown([first, second])
    commit = {"began": "2026-01-02T03:04:05", "git_commit": "c0ffee", "git_changes": None}
    first["sittings"], second["sittings"] = [commit], [commit, {**commit, "git_changes": "abc"}]
    assert "1 of 2 runs were made by code with changes that are in no commit (skip-s0-s1)." in render_markdown(
        [first, second]
    )
    assert "All runs were made by code" in render_markdown([second])
