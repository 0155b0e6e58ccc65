"""What is written of an item: tables, figure and page, all from its lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.comparison import as_csv
from analysis.figures.items import item_figure
from analysis.figures.style import render as render_figure
from analysis.items import latex, markdown
from analysis.items.classes import class_table
from analysis.items.page import page
from analysis.items.table import ItemTable, item_tables
from analysis.items.words import headline
from sla_ablate.errors import InputError
from sla_ablate.files import alone_in, write_atomically
from sla_ablate.items.item import Item
from sla_ablate.items.lines import Line
from sla_ablate.text import escape


def write_report(item: Item, scale: str, lines: Sequence[Line], folder: Path, baselines: Sequence[Line] = ()) -> str:
    """Write tables, figure and page of an item into a folder; returns what a terminal shows.

    Args:
        item: the item.
        scale: at which it was measured.
        lines: its runs.
        folder: where to.
        baselines: runs of the baseline, of other items too; see `item_tables`.
    """
    tables = item_tables(item, scale, lines, baselines)
    if not tables:
        return f"No run is done, {len(lines)} diverged.\n" if lines else "No run is done.\n"
    files = report_files(tables)
    folder.mkdir(parents=True, exist_ok=True)
    with alone_in(folder):
        for name, data in files.items():
            write_atomically(folder / name, data)
    return f"{markdown.render(tables)}\n{escape.line(headline(tables[0]))}\n"


def report_files(tables: Sequence[ItemTable]) -> dict[str, bytes]:
    """Names and contents of what is written of an item; the figure is of the table with the most runs."""
    files = {
        "table.md": markdown.render(tables).encode(),
        "table.csv": as_csv(tables[0].rows),
        "table.tex": latex.render(tables).encode(),
        "classes.csv": as_csv(class_table(tables[0])),
        "report.html": page(tables).encode(),
    }
    try:
        figure = item_figure(tables[0])
    except InputError:  # no pair yet
        return files
    return files | {f"figure.{suffix}": render_figure(figure, suffix) for suffix in ("svg", "png")}
