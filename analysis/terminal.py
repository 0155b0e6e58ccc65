"""The table of a sweep as far as it fits into a terminal's width; the rest is in the report's files."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pandas as pd
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.comparison import BASELINE, Record, by_setting, cells_of, comparison_table, notes_of
from analysis.evidence import distinct
from analysis.measured_on import measured_on
from sla_ablate.runs import swept
from sla_ablate.text import escape

_WIDEST_LABEL = 32
_GAP = 2
_FIRST = ("Pattern", "Nats/token ↓", "Δ nats/token to baseline ↓", "Runs", "p (Holm)", "Perplexity ↓", "Pairs")
"""The columns that matter most, in the order in which they are given room; then come the others."""
_MARKS = (
    "Δ: mean difference to the baseline of the same seed, with its 95 % t-interval; † it includes 0; p: paired t test, "
    "Holm-adjusted."
)


def render(records: Sequence[Record], order: Sequence[str], width: int, colour: bool) -> str:
    """One table a setting, rows as of `comparison_table`, each with what it was measured on.

    Args:
        records: of the sweep, of which some are done.
        order: the patterns that were chosen.
        width: characters a line.
        colour: better than the baseline is green, worse is red, the best bold.
    """
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, force_terminal=colour, no_color=not colour, highlight=False)
    told = swept.titles(records)
    for setting, group in by_setting(records).items():
        if len(told) > 1:
            console.print(Text(escape.line(told[setting])))
        runs = distinct(group)
        table = comparison_table(runs, order)
        cells = cells_of(table, runs, escape.line, str)
        shown = _fitting(cells, width)
        console.print(_table(cells[shown], table))
        done = [record for record in runs if record["state"] == "done"]
        left_out = [str(name) for name in cells if name not in shown]
        notes = [_MARKS if BASELINE in set(table["pattern"]) else "", measured_on(done) if done else "No run is done."]
        notes += [
            *notes_of(table, runs),
            f"Not shown at this width: {', '.join(left_out).replace(' ↓', '')}." if left_out else "",
        ]
        for note in filter(None, notes):
            console.print(Text(escape.line(note)))
        console.print()
    return "\n".join(line.rstrip() for line in buffer.getvalue().rstrip().splitlines()) + "\n"


def _fitting(cells: pd.DataFrame, width: int) -> list[str]:
    """The columns that there is room for, in the table's order."""
    left, chosen = width + _GAP, set()
    names = [str(name) for name in cells]
    swept = [name for name in names if name.startswith("pattern.")]
    for name in dict.fromkeys(["Pattern", *swept, *_FIRST, *names]):
        if (needed := _width(cells, name) + _GAP) <= left:
            chosen.add(name)
            left -= needed
    return [name for name in names if name in chosen or name == "Pattern"]


def _width(cells: pd.DataFrame, name: str) -> int:
    widest = max([cell_len(cell) for cell in cells[name]] + [len(word) for word in name.replace(" ↓", "").split()])
    return min(widest, _WIDEST_LABEL) if name == "Pattern" else widest


def _table(cells: pd.DataFrame, table: pd.DataFrame) -> Table:
    made = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for name in map(str, cells):
        made.add_column(
            Text(name.replace(" ↓", "")),
            justify="left" if name == "Pattern" else "right",
            width=_width(cells, name),
            overflow="fold",
        )
    best = table["nats_per_token_mean"].min()
    for (_, row), (_, numbers) in zip(cells.iterrows(), table.iterrows(), strict=True):
        style = "green" if numbers["delta_high"] < 0 else "red" if numbers["delta_low"] > 0 else ""
        bold = " bold" if numbers["nats_per_token_mean"] == best else ""
        made.add_row(*map(Text, row), style=style + bold)
    return made
