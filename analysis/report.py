"""The report of a sweep: its tables and figures as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from analysis import latex
from analysis.comparison import (
    Record,
    as_csv,
    by_setting,
    comparison_table,
    count_states,
    render_markdown,
    runs_table,
    seed_differences,
)
from analysis.diversity_table import render_markdown as render_diversity
from analysis.figures import check_out, paired_differences, render
from analysis.selection import EVERYTHING, Selection
from analysis.sweep_data import HEADS, settings_of
from sla_ablate.errors import InputError
from sla_ablate.files import alone_in, inside, replace_file
from sla_ablate.runs.sweep import read_sweep, tell_others, unreadable
from sla_ablate.runs.swept import file_names


class Report(NamedTuple):
    """What was written."""

    files: dict[str, bytes]
    """Contents by name."""
    faults: list[str]
    """What could not be read, a line each."""
    out: Path
    """Where the files are."""
    records: Sequence[Record]
    """Of the runs that were chosen."""
    order: Sequence[str]
    """The patterns as they were chosen."""


def write_report(
    sweep: str | Path, out: str | Path | None = None, force: bool = False, selection: Selection = EVERYTHING
) -> Report:
    """Write the report of a sweep folder into `out` (default `<sweep>/report`).

    That of a selection goes into a folder of its own, unless `out` says where.

    A sweep that was analyzed has a `diversity.md` too.

    Raises:
        InputError: the sweep has no records, no run of it is done, or `out` holds something else than reports and
            figures and there is no `force`.
    """
    sweep = Path(sweep)
    found = read_sweep(sweep)
    tell_others(found.left_out)
    records, chosen = selection.of(found.records)
    if out is None:
        out = inside(sweep, f"report{selection.suffix}")
    else:
        check_out(out := Path(out), force)
    files, faults = report_files(records, chosen), unreadable(found.left_out)
    if (sweep / HEADS).exists():
        try:
            settings = settings_of(sweep, records, faults, chosen=chosen)
            files["diversity.md"] = "\n".join(map(render_diversity, settings.values())).encode()
        except InputError as error:
            faults.append(str(error))
    out.mkdir(parents=True, exist_ok=True)
    with alone_in(out):
        for name, data in files.items():
            replace_file(out / name, data)
    return Report(files, faults, out, records, chosen)


def report_files(records: Sequence[Record], order: Sequence[str] = ()) -> dict[str, bytes]:
    """Names and contents of a report: `table.md`, `.csv` and `.tex`, `runs.csv` and, where runs are paired,
    `differences.svg` and `.png` (with several settings one each, `differences-lr0.001.*`); patterns as of
    `comparison_table`.

    Raises:
        InputError: no run is done.
    """
    if not any(record["state"] == "done" for record in records):
        raise InputError(f"no run of this sweep is done, so there is nothing to report: {count_states(records)}")
    files = {
        "table.md": render_markdown(records, order).encode(),
        "table.tex": latex.render(records, order).encode(),
        "table.csv": as_csv(comparison_table(records, order)),
        "runs.csv": as_csv(runs_table(records)),
    }
    settings, names = by_setting(records), file_names(records)
    for setting, group in settings.items():
        if len(seed_differences(group)):
            figure = paired_differences(group, order)
            name = "differences" if len(settings) == 1 else f"differences-{names[setting]}"
            files |= {f"{name}.{suffix}": render(figure, suffix) for suffix in ("svg", "png")}
    return files
