"""Answer an item: sweep, analysis, table beside the published values, figure and page; goes on where it was left."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sla_ablate.bounds import Bounds
from sla_ablate.commands._arguments import Parser, add_config_dir, add_force, add_trust, number, reject_flags
from sla_ablate.errors import InputError

if TYPE_CHECKING:
    from sla_ablate.items.store import Results
    from sla_ablate.items.work import Work

USAGE = "ITEM [--scale S] [--seeds N] [--results DIR] [--dry-run] [--verify [N]] [--yes] [OVERRIDES…] | --list"
TAKES_OVERRIDES = True


_LOCAL = "hydra/launcher=local"
_LONG = 3600.0
"""Seconds from which on the user is asked first."""


def words() -> list[str]:
    """What a shell completes."""
    from sla_ablate.items.store import item_names

    return item_names()


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    parser = Parser("reproduce")
    parser.add_argument("item", nargs="?", help="name of an item, or a folder of one with a slash in it")
    parser.add_argument("overrides", nargs="*", help="as of train, for all of its runs")
    parser.add_argument("--list", action="store_true", help="the items, what is measured of them, and what it says")
    parser.add_argument("--scale", default="smoke", help="size of the runs, a file of conf/scale (default: smoke)")
    parser.add_argument("--seeds", type=number(Bounds(1, 1000)), metavar="N", help="how many (default: the item's)")
    parser.add_argument("--results", type=Path, metavar="DIR", help="where results are kept, a folder for each item")
    parser.add_argument("--dry-run", action="store_true", help="say what there is to do, and start nothing")
    parser.add_argument(
        "--verify", type=number(Bounds(1, 10**6)), nargs="?", const=2, metavar="N", help="repeat N results (default: 2)"
    )
    parser.add_argument("--site", type=Path, metavar="OUT", help="write one page of all items' pages, with an index")
    parser.add_argument("--yes", action="store_true", help="do not ask, however long it takes")
    add_force(parser)
    add_trust(parser)
    add_config_dir(parser)
    options, flags = parser.parse_known_intermixed_args(arguments)
    reject_flags(flags, USAGE)
    from sla_ablate.items import store
    from sla_ablate.runs.provenance import command_line

    results = store.Results.at(options.results)
    if options.list or options.site:
        if options.item:
            raise InputError(f"--list and --site are of all items; leave out {options.item!r}")
        from analysis.items import overview

        if options.site:
            print("\n".join(map(str, overview.write_site(results, options.site, options.force))))
        else:
            print(overview.listing(results))
        return 0
    if not options.item:
        raise InputError(f"reproduce needs an item; choose from {', '.join(store.all_items())}, or --list")
    return _reproduce(options, results, command_line("reproduce", arguments))


def _reproduce(options: argparse.Namespace, results: Results, command: str) -> int:
    from sla_ablate.text.telling import tell, tell_next, waiting

    with waiting("importing torch", tell):
        from sla_ablate.items import store
        from sla_ablate.items.estimate import estimate
        from sla_ablate.items.work import batches, work_of
        from sla_ablate.launch.disk import check_disk, parallel
        from sla_ablate.launch.launch import carry_out_all
        from sla_ablate.runs.record import FINAL
        from sla_ablate.training.calibration import tokens_per_second

    item = store.item_named(options.item)
    overrides = _with_launcher(options.overrides)
    work = work_of(item, options.scale, options.seeds, overrides, results, options.config_dir, options.trust)
    if options.verify:
        from sla_ablate.items.verify import verify

        return verify(work, options.verify)
    tell(f"{item.name} at {work.scale}: {item.question}")
    if not options.dry_run:
        _collect(work)
    todo = [run for run in work.to_do(work.lines()) if _state(run.folder) not in FINAL]
    begun = len(work.runs) - len(todo)
    tell(f"{len(work.runs)} run(s), {begun} of them done; results: {work.folder}")
    code = 0
    if todo:
        at_a_time = parallel(work.hydra.hydra.launcher, len(todo))
        with waiting("measuring how fast this machine trains", tell):
            needed = estimate(todo, at_a_time, tokens_per_second)
        tell(f"{needed}, {at_a_time} at a time{check_disk(todo, at_a_time)}")
        if options.dry_run:
            return 0
        if needed.seconds > _LONG and not options.yes and not _agreed():
            return 0
        for batch in batches(todo, at_a_time):
            code = max(code, carry_out_all(batch, work.hydra, command, begun, len(work.runs) - begun - len(batch)))
            begun += len(batch)
            _collect(work)
            if code == 130:
                return code
    if not options.dry_run:
        from analysis.items.report import write_report

        with waiting(f"writing the tables, figures and page in {work.folder}", tell):
            text = write_report(item, work.scale, work.lines(), work.folder, results.all_lines())
        print(text, end="")
        tell_next(work.folder / "report.html", f"reproduce {item.name} --scale {options.scale} --verify 2")
    return code


def _with_launcher(overrides: Sequence[str]) -> list[str]:
    """Several runs at a time where the launcher for it is installed, unless another was chosen."""
    from importlib.util import find_spec

    chosen = any(override.startswith("hydra/launcher=") for override in overrides)
    return [*overrides, *([] if chosen or find_spec("hydra_plugins.hydra_joblib_launcher") is None else [_LOCAL])]


def _agreed() -> bool:
    """Whether the user, if there is one, wants what takes long."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return True
    return input("Start? [y/N] ").strip().lower() in ("y", "yes")


def _collect(work: Work) -> None:
    """Measure the heads of the runs that are done and have no line, and write the lines of all that have ended.

    Lines that only other items have are taken over.
    """
    from analysis.analyze import measure_runs
    from analysis.items.heads import EFFORT, heads_of
    from sla_ablate.config.machine import parallel_runs, processor_kind
    from sla_ablate.items.lines import FILE, append_lines, line_of, processor_of, training_curve
    from sla_ablate.items.work import result_hash
    from sla_ablate.runs.record import FINAL, read_record

    there = work.lines()
    have = {result_hash(line["run_id"]) for line in there if processor_of(line) == processor_kind()}
    ended = [run for run in work.runs if result_hash(run.folder.name) not in have and _state(run.folder) in FINAL]
    done = [run.folder for run in ended if _state(run.folder) == "done"]
    measure_runs(done, EFFORT, parallel_runs(1, 1, "cpu"))
    lines = []
    for run in ended:
        record = read_record(run.folder)
        assert record is not None
        curve = training_curve(run.folder, record)
        lines.append(line_of(record, run.data_digest, heads_of(run.folder), curve))
    append_lines(work.folder / FILE, [*there, *lines])


def _state(folder: Path) -> str:
    from sla_ablate.runs.record import read_summary

    record = read_summary(folder)
    return "waiting" if record is None else str(record["state"])
