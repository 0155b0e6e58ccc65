"""The tables of a sweep in LaTeX, to be put into a document; needs the package textcomp."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from analysis.comparison import Record, by_setting, cells_of, comparison_table, notes_of
from analysis.evidence import distinct
from analysis.measured_on import measured_on
from sla_ablate.runs import swept
from sla_ablate.text import escape


def render(records: Sequence[Record], order: Sequence[str] = ()) -> str:
    """A `table` environment a setting that has done runs, with what it was measured on for its caption."""
    told = swept.titles(records)
    tables = []
    for setting, group in by_setting(records).items():
        runs = distinct(group)
        if not (done := [record for record in runs if record["state"] == "done"]):
            continue
        table = comparison_table(runs, order)
        cells = cells_of(table, runs, str, str).map(escape.latex)
        body = tabulate(
            cells.values.tolist(),
            [escape.latex(name) for name in cells],
            tablefmt="latex_raw",
            disable_numparse=True,
            colalign=["left", *["right"] * (len(cells.columns) - 1)],
        )
        heading = [f"{told[setting]}."] if len(told) > 1 else []
        caption = escape.latex(" ".join([*heading, measured_on(done), *notes_of(table, runs)]))
        tables.append(f"\\begin{{table}}\n\\centering\\small\n\\caption{{{caption}}}\n{body}\n\\end{{table}}\n")
    return "\n".join(tables)
