"""Write the tables (Markdown, CSV, LaTeX) and the figure of a sweep, and show them."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sla_ablate.commands._arguments import Parser, add_force, add_selection
from sla_ablate.errors import InputError

if TYPE_CHECKING:
    from analysis.report import Report

USAGE = "SWEEP [--format FORMAT] [--patterns A,B] [--where KEY=VALUE] [--out DIR [--force]]"
_FORMATS = {"markdown": "table.md", "csv": "table.csv", "latex": "table.tex"}
"""The file that is printed."""


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    parser = Parser("report")
    parser.add_argument("sweep", type=Path, help="folder of a sweep, such as runs/demo")
    parser.add_argument("--out", type=Path, help="folder to write to (default: SWEEP/report)")
    parser.add_argument(
        "--format", choices=[*_FORMATS, "json"], help="print it so, instead of what fits into the width of the terminal"
    )
    add_selection(parser)
    add_force(parser)
    options = parser.parse_args(arguments)
    from sla_ablate.text.telling import tell_aside, tell_next, waiting

    with waiting(f"comparing the runs of {options.sweep} and drawing figures", tell_aside):
        from analysis.report import write_report
        from analysis.selection import Selection

        selection = Selection(options.patterns, options.where)
        report = write_report(options.sweep, options.out, options.force, selection)
    print(_printed(report, options.format), end="")
    tell_next(report.out / "table.md", _next(options.sweep))
    if report.faults:
        raise InputError("\n".join(report.faults))
    return 0


def _printed(report: Report, form: str | None) -> str:
    if form in _FORMATS:
        return report.files[_FORMATS[form]].decode()
    if form == "json":
        from analysis.comparison import comparison_table

        return (
            comparison_table(report.records, report.order).to_json(orient="records", indent=1, force_ascii=False) + "\n"
        )
    from analysis.terminal import render

    return render(report.records, report.order, shutil.get_terminal_size().columns, sys.stdout.isatty())


def _next(sweep: Path) -> str:
    """The command that usually follows: the figures of a sweep that was analyzed."""
    name = shlex.quote(str(sweep))
    return f"figure all {name}" if (sweep / "analysis" / "heads.parquet").exists() else f"analyze {name}"
