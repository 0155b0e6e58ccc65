"""What a difference is worth: at equal compute, and at equal bytes of cache."""

import math

import pytest
from made_up_lines import made_up_lines

from analysis.figures.items import baseline_curve
from analysis.items.table import item_tables
from analysis.items.words import curves_told
from sla_ablate.errors import InputError
from sla_ablate.items.store import all_items

CACHE = "kv_cache_bytes_per_token"


def with_loss(line, loss):
    return {**line, "validation": {**line["validation"], "nll": loss * line["validation"]["tokens"]}}


def test_delta_at_equal_cache_is_to_a_baseline_between_two_widths():
    """Baselines at 4 nats less a third for each halving of the cache; CLA, with half of it, at 4 nats and a third."""
    item = all_items()["relatives"]
    lines = []
    for line in made_up_lines(item, seeds=2):
        cut = math.log2(3072 / line["cost"][CACHE])
        if line["config"]["pattern"]["name"] == "baseline":
            line = with_loss(line, 4 + cut / 3)
        elif line["config"]["pattern"]["name"] == "cla":
            line = with_loss(line, 4 + 1 / 3 - (0.01 if line["seed"] == 10 else 0.03))
        lines.append(line)
    (table,) = item_tables(item, "micro", lines, lines)
    rows = table.rows.set_index("pattern")
    (cla,) = (row for name, row in rows.iterrows() if name.startswith("CLA"))
    assert cla[CACHE] == 1536
    assert cla["delta_at_equal_cache"] == pytest.approx(-0.02, abs=1e-9)
    half = 12.7062 * 0.01 * math.sqrt(2) / math.sqrt(2)  # t(1) · s / √n
    assert cla["delta_at_equal_cache_high"] == pytest.approx(-0.02 + half, abs=1e-5)
    (narrowest,) = (row for name, row in rows.iterrows() if name == "first layer, 4 of 4 heads")
    assert narrowest[CACHE] < 768  # less than the narrowest baseline that was measured
    assert math.isnan(narrowest["delta_at_equal_cache"])
    assert rows.loc["baseline", "delta_at_equal_cache"].isna().all()


def test_the_curve_of_the_baseline_is_told_or_why_there_is_none():
    item = all_items()["training_length"]
    lines = made_up_lines(item, seeds=2)
    (table,) = item_tables(item, "micro", lines, lines)
    (told,) = curves_told(table)
    curve = table.curves.of(table.done[0]).curve
    assert f"L = {curve.E:.4g} + {curve.B:.4g}·D^−{curve.beta:.3f}; largest residual" in told
    assert baseline_curve(table).axes
    lengths = sorted({line["cost"]["tokens"] for line in lines})
    (few,) = item_tables(item, "micro", lines, [line for line in lines if line["cost"]["tokens"] < lengths[3]])
    assert curves_told(few) == ["No factor of compute: the baseline was trained to 3 length(s), and a curve takes 4."]
    with pytest.raises(InputError):
        baseline_curve(few)


def test_the_processors_of_a_row_are_told():
    item = all_items()["skip_heads"]
    lines = made_up_lines(item, seeds=2, cpu="A") + made_up_lines(item, seeds=1, cpu="B")
    (table,) = item_tables(item, "micro", lines)
    assert set(table.rows["processors"]) == {"A (2), B (1)"}
    assert set(table.rows["pairs"]) == {0, 3}
