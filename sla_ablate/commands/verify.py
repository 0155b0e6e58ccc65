"""Check what runs left against its digests and, with --runs, score their models again."""

from __future__ import annotations

from pathlib import Path

from sla_ablate.bounds import Bounds
from sla_ablate.commands._arguments import Parser, add_data_path, number
from sla_ablate.text import escape

USAGE = "SWEEP|RUN [--runs N] [data.path=PATH]"


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    parser = Parser("verify")
    parser.add_argument("folder", type=Path, help="folder of a sweep or of a run")
    parser.add_argument(
        "--runs", type=number(Bounds(1, 10**6)), metavar="N", help="also score the models of N done runs again"
    )
    add_data_path(parser)
    options = parser.parse_intermixed_args(arguments)
    from analysis import stored
    from sla_ablate.files import without_dots
    from sla_ablate.runs.sweep import check_all_read, tell_others
    from sla_ablate.runs.verify import faults, runs_of

    folder = without_dots(options.folder)
    runs, left_out = runs_of(folder)
    tell_others(left_out)
    code, whole = 0, []
    for line in stored.faults(folder) if runs and folder != runs[0].folder else ():
        print(escape.line(line))
        code = 2
    for each in runs:
        lines = [*faults(each.folder, each.record), *stored.faults(each.folder)]
        kept = "whole" if each.record.get("digests") else f"{each.record['state']}, without digests of what it left"
        for line in lines or [kept]:
            print(escape.line(f"{each.folder.name}  {line}"), flush=True)
        if lines:
            code = 2
        elif each.record["state"] == "done":
            whole.append(each)
    if options.runs is not None:
        from analysis.rescore import rescore
        from sla_ablate.runs.data import prepare_from

        if options.data_path:
            prepare_from(options.data_path, [each.folder for each in whole[: options.runs]])
        for each in whole[: options.runs]:
            agrees, line = rescore(each.folder, each.record)
            print(escape.line(f"{each.folder.name}  {line}"), flush=True)
            code = code if agrees else 2
    check_all_read(left_out)
    return code
