"""Seeds that an item needs to resolve a difference, and the smallest one that the seeds at hand can show."""

from __future__ import annotations

from pathlib import Path

from sla_ablate.bounds import Bounds
from sla_ablate.commands._arguments import Parser, number
from sla_ablate.errors import InputError

USAGE = "ITEM [--scale S] [--delta NATS] [--results DIR]"


def words() -> list[str]:
    """What a shell completes."""
    from sla_ablate.items.store import item_names

    return item_names()


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    parser = Parser("power")
    parser.add_argument("item", help="name of an item, or a folder of one with a slash in it")
    parser.add_argument("--scale", default="micro", help="at which it was measured (default: micro)")
    parser.add_argument(
        "--delta",
        type=number(Bounds(-1e6, 1e6, without=0.0)),
        metavar="NATS",
        help="only this difference, in nats per token",
    )
    parser.add_argument("--results", type=Path, metavar="DIR", help="where results are kept, as of reproduce")
    options = parser.parse_args(arguments)
    from analysis.items.power import describe
    from analysis.items.table import item_tables
    from sla_ablate.items.store import Results, item_named

    item = item_named(options.item)
    results = Results.at(options.results)
    lines = results.lines(item.name, options.scale)
    if not lines:
        has = ", ".join(results.scales(item.name)) or "none yet"
        raise InputError(f"{item.name} has no results at {options.scale}; it has them at: {has}")
    deltas = (options.delta,) if options.delta is not None else None
    print("\n\n".join(describe(table, deltas) for table in item_tables(item, options.scale, lines)))
    return 0
