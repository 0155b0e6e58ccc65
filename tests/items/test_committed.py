"""The committed tables are those of the committed lines."""

import io

import pandas as pd
import pytest

from analysis.items.report import report_files
from analysis.items.table import item_tables
from sla_ablate.items.store import Results, all_items, experiments

RESULTS = Results(experiments())
MEASURED = [(item, scale) for item in all_items().values() for scale in RESULTS.scales(item.name)]


@pytest.mark.parametrize("item, scale", MEASURED, ids=lambda value: getattr(value, "name", value))
def test_tables_are_rebuilt_from_the_lines(item, scale):
    tables = item_tables(item, scale, RESULTS.lines(item.name, scale), RESULTS.all_lines())
    files = report_files(tables)
    folder = RESULTS.folder(item.name, scale)
    assert files["table.md"].decode() == (folder / "table.md").read_text(encoding="utf-8")
    for name in ("table.csv", "classes.csv"):
        pd.testing.assert_frame_equal(
            pd.read_csv(io.BytesIO(files[name])), pd.read_csv(folder / name), rtol=1e-9, atol=1e-12
        )


def test_every_item_says_what_it_asks_and_how():
    for item in all_items().values():
        text = (item.folder / "README.md").read_text(encoding="utf-8")
        assert item.question in text
        assert f"sla-ablate reproduce {item.name}" in text
