"""Draw figures of an analyzed sweep, or all of them, as SVG, PDF and PNG."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.figure_names import FIGURES, OF_RUNS, question
from sla_ablate.commands._arguments import Parser, add_force, add_selection

USAGE = "NAME… SWEEP [--patterns A,B] [--where KEY=VALUE] [--run RUN] [--out DIR [--force]]"


def words() -> list[str]:
    """What a shell completes."""
    return [*FIGURES, "all"]


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    questions = [f"  {name:<18}{question(name)}" for name in FIGURES] if {"-h", "--help"} & {*arguments} else []
    parser = Parser(
        "figure", epilog="\n".join(["figures:", *questions]), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names",
        nargs="+",
        metavar="name",
        help="of those below, all, or a function of your own: my_package.module:name",
    )
    parser.add_argument("sweep", type=Path, help="folder of an analyzed sweep, such as runs/demo")
    parser.add_argument("--out", type=Path, help="folder to write to (default: SWEEP/figures)")
    parser.add_argument("--run", help=f"id or folder of the one run to show, of {', '.join(OF_RUNS)}")
    add_selection(parser)
    add_force(parser)
    options = parser.parse_args(arguments)
    from analysis.figures import write_figures
    from analysis.selection import Selection
    from sla_ablate.text.telling import tell, tell_aside, waiting

    selection = Selection(options.patterns, options.where)
    with waiting(f"drawing {', '.join(options.names)} of {options.sweep}", tell_aside):
        for path in write_figures(options.names, options.sweep, options.out, options.run, options.force, selection):
            tell(str(path))
    return 0
