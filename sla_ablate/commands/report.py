"""Write the tables (Markdown, CSV) and the figure of a sweep."""

from __future__ import annotations

from pathlib import Path

from sla_ablate.commands._arguments import Parser, add_force, add_selection
from sla_ablate.errors import InputError

USAGE = "SWEEP [--patterns A,B] [--where KEY=VALUE] [--out DIR [--force]]"


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    parser = Parser("report")
    parser.add_argument("sweep", type=Path, help="folder of a sweep, such as runs/demo")
    parser.add_argument("--out", type=Path, help="folder to write to (default: SWEEP/report)")
    add_selection(parser)
    add_force(parser)
    options = parser.parse_args(arguments)
    from sla_ablate.text.telling import tell_aside, waiting

    with waiting(f"comparing the runs of {options.sweep} and drawing figures", tell_aside):
        from analysis.report import write_report
        from analysis.selection import Selection

        selection = Selection(options.patterns, options.where)
        report = write_report(options.sweep, options.out, options.force, selection)
    print(report.text, end="")
    if report.faults:
        raise InputError("\n".join(report.faults))
    return 0
