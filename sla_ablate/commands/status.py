"""Show how far every run of a sweep is."""

from __future__ import annotations

from pathlib import Path

from sla_ablate.commands._arguments import Parser

USAGE = "[SWEEP] [--watch] [--json]"


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    parser = Parser("status")
    parser.add_argument("sweep", type=Path, nargs="?", help="folder of a sweep (default: all under runs/)")
    parser.add_argument("--watch", action="store_true", help="again every two seconds, until nothing is ahead")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    from sla_ablate.runs import status

    return 0 if status.show(options.sweep, options.watch, options.json) else 2
