"""Draw a figure of an analyzed sweep, or all of them, as SVG, PDF and PNG."""

from __future__ import annotations

import argparse
from pathlib import Path

from sla_ablate.commands._arguments import Parser, add_force

USAGE = "NAME SWEEP [--out DIR [--force]] [--run RUN]"


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    from analysis.figures import FIGURES, OF_RUNS, write_figures
    from sla_ablate.text.telling import tell, tell_aside, waiting

    questions = [f"  {name:<18}{str(draw.__doc__).splitlines()[0]}" for name, draw in FIGURES.items()]
    parser = Parser(
        "figure", epilog="\n".join(["figures:", *questions]), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="one of those below, all, or a function of your own: my_package.module:name")
    parser.add_argument("sweep", type=Path, help="folder of an analyzed sweep, such as runs/demo")
    parser.add_argument("--out", type=Path, help="folder to write to (default: SWEEP/figures)")
    parser.add_argument("--run", help=f"id or folder of the one run to show, of {', '.join(OF_RUNS)}")
    add_force(parser)
    options = parser.parse_args(arguments)
    with waiting(f"drawing {options.name} of {options.sweep}", tell_aside):
        for path in write_figures(options.name, options.sweep, options.out, options.run, options.force):
            tell(str(path))
    return 0
