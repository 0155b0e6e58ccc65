"""Show how far every run of a sweep is, or where a run comes from."""

from __future__ import annotations

from pathlib import Path

from sla_ablate.commands._arguments import Parser, add_where
from sla_ablate.errors import InputError

USAGE = "[SWEEP|RUN] [--state STATE] [--where KEY=VALUE] [--watch] [--json]"


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    from sla_ablate.runs.ledger import URGENT

    parser = Parser("status")
    parser.add_argument("sweep", type=Path, nargs="?", help="folder of a sweep, or of a run (default: all under runs/)")
    parser.add_argument(
        "--state", action="append", default=[], choices=URGENT, help="only runs in this state; may be given again"
    )
    add_where(parser)
    parser.add_argument("--watch", action="store_true", help="again every two seconds, until nothing is ahead")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    from sla_ablate.runs import status

    if options.sweep is None and (options.state or options.where):
        raise InputError("--state and --where choose runs of one sweep; name its folder")
    if options.sweep is not None and (options.sweep / "record.json").exists():
        if options.state or options.where or options.watch:
            raise InputError(f"{options.sweep} is a run's folder; --state, --where and --watch are for a sweep's")
        from sla_ablate.runs.origin import describe
        from sla_ablate.runs.record import existing_summary
        from sla_ablate.text.words import as_json

        print(as_json(existing_summary(options.sweep), indent=1) if options.json else describe(options.sweep))
        return 0
    if not options.where:
        return 0 if status.show(options.sweep, options.watch, options.json, options.state) else 2
    from analysis.selection import Selection

    def choose(records: list[dict[str, object]]) -> list[dict[str, object]]:
        return Selection(where=options.where).of(records)[0]

    return 0 if status.show(options.sweep, options.watch, options.json, options.state, choose) else 2
