"""The table of an item: its rows, their names, and the overview of all items."""

import pytest

from analysis.items.columns import columns, minus
from analysis.items.overview import listing
from analysis.items.table import ItemTable
from analysis.items.words import answer, headline
from sla_ablate.items.lines import append_lines
from sla_ablate.items.store import Results, all_items


def test_one_pattern_under_several_names_is_one_row(tables):
    """Groups of two layers are both CLA and LCKV's lasagna."""
    table = tables("relatives")
    both = "CLA, groups of 2, also lasagna, 3 KV layers"
    assert [name for name in table.rows["pattern"] if ", also " in name] == [both]
    row = table.rows[table.rows["pattern"] == both].iloc[0]
    assert (row["runs"], row["pairs"]) == (2, 2)  # a seed's runs are the same run


def test_columns_of_words_are_no_numbers(tables):
    kinds = {column.title: column.is_number for column in columns(tables("which_heads"))}
    assert {title for title, number in kinds.items() if not number} == {"Pattern", "Which heads", "Processor"}


@pytest.mark.parametrize(
    "text, shown", [("-0.5 [-1, +2]", "−0.5 [−1, +2]"), ("1e-3 GPT-2 a-1", "1e-3 GPT-2 a-1"), ("(-3)", "(−3)")]
)
def test_minus(text, shown):
    assert minus(text) == shown


def test_the_answer_needs_two_pairs(tables):
    table = tables("skip_heads")
    single = ItemTable(table.item, "micro", [line for line in table.lines if line["seed"] == 10])
    assert headline(single) == "no pattern has two pairs of seeds yet"
    assert answer(single) == "No pattern has two pairs of seeds yet."
    lowest = table.rows.sort_values("delta").iloc[0]
    assert lowest["pattern"] in headline(table)
    assert "of 4 compared" in headline(table)


def test_the_list_fits_a_terminal(tables, tmp_path):
    for name in ("window", "learning_rate"):
        append_lines(tmp_path / name / "results" / "micro" / "runs.jsonl", tables(name).lines)
    text = listing(Results(tmp_path))
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("\n\n") == len(all_items()) - 1
    assert "  micro: 30 run(s); " in text
    assert " at peak learning rate 0.0" in " ".join(text.split())
    assert "  not measured; scales: smoke" in text
