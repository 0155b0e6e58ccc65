"""The table of an item in LaTeX, as a document that compiles as it is; needs the package booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.items.columns import Column, columns, minus
from analysis.items.table import ItemTable
from analysis.items.words import caption
from sla_ablate.text import escape

_PREAMBLE = r"""\documentclass{article}
\usepackage[a4paper,landscape,margin=15mm]{geometry}
\usepackage{amsmath,booktabs,graphicx,textcomp}
\begin{document}
"""


def render(tables: Sequence[ItemTable]) -> str:
    """The tables, a `table` environment each."""
    return _PREAMBLE + "\n".join(map(_table, tables)) + "\n\\end{document}\n"


def _table(table: ItemTable) -> str:
    found = columns(table)
    # The empty group: \\ takes a bracket or a star that begins the next row for its own.
    body = ["{}" + " & ".join(_cell(column, n) for column in found) + r" \\" for n in range(len(table.rows))]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\small",
            rf"\caption{{{escape.latex(minus(caption(table)))}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{''.join('r' if column.is_number else 'l' for column in found)}}}",
            r"\toprule",
            " & ".join(escape.latex(column.title) for column in found) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
        ]
    )


def _cell(column: Column, n: int) -> str:
    text = escape.latex(minus(column.cells[n]))
    return rf"\textbf{{{text}}}" if column.best and column.best[n] else text
