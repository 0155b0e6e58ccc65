"""One way to read a sweep: each of its folders is a run, or is left out for a reason that is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sla_ablate.errors import InputError
from sla_ablate.files import is_held, without_dots
from sla_ablate.runs.record import Record, read_record
from sla_ablate.text.telling import tell_aside

NOT_RUNS = ("analysis", "figures", "report", "mlruns", "mlartifacts")
"""Folders of a sweep that commands and loggers make."""


@dataclass(frozen=True)
class Run:
    """A run folder that could be read."""

    folder: Path
    record: Record


@dataclass(frozen=True)
class LeftOut:
    """A folder that is no run."""

    folder: Path
    state: str
    """`unreadable`; or `copy` or `no run`, which nothing is the matter with."""
    reason: str
    """One line that names the folder or file."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep's folder holds, by name."""

    runs: list[Run]
    left_out: list[LeftOut]

    @property
    def records(self) -> list[Record]:
        """Of the runs."""
        return [run.record for run in self.runs]


def tell_others(left_out: Iterable[LeftOut]) -> None:
    """Tell people of copies and of folders without a run; for the rest there is `check_all_read`."""
    for each in left_out:
        if each.state != "unreadable":
            tell_aside(each.reason)


def check_all_read(left_out: Iterable[LeftOut]) -> None:
    """To be called when all runs that could be read have been worked on.

    Raises:
        InputError: one could not; a line each.
    """
    if reasons := unreadable(left_out):
        raise InputError("\n".join(reasons))


def unreadable(left_out: Iterable[LeftOut]) -> list[str]:
    """Why runs could not be read, a line each."""
    return [each.reason for each in left_out if each.state == "unreadable"]


def read_sweep(sweep: Path, record_of: Callable[[Path], Record | None] = read_record) -> Sweep:
    """Read the folders of a sweep.

    A run's folder has the name of its run. So of two folders with one run, one is a copy, and does not count.

    Args:
        sweep: its folder.
        record_of: `read_record`, or `read_summary` where results are not needed.

    Raises:
        InputError: it holds no runs.
    """
    runs: list[Run] = []
    left_out: list[LeftOut] = []
    for name, is_link in _names(sweep):
        found = _link(sweep / name) if is_link else read_run(sweep / name, record_of)
        if isinstance(found, Run):
            runs.append(found)
        else:
            left_out.append(found)
    if not runs:
        check_all_read(left_out)
        whole = without_dots(sweep)
        near = sorted(path.name for path in whole.parent.glob("*") if path.is_dir() and path != whole)
        hint = f"; beside it there are: {', '.join(near)}" if near else ""
        raise InputError(f"{sweep} holds no runs{hint}")
    return Sweep(runs, left_out)


def _names(sweep: Path) -> list[tuple[str, bool]]:
    """The names of its folders, and whether each is a link to one."""
    try:
        with os.scandir(sweep) as entries:
            return sorted(
                (entry.name, entry.is_symlink())
                for entry in entries
                if not entry.name.startswith(".") and entry.name not in NOT_RUNS and entry.is_dir()
            )
    except (FileNotFoundError, NotADirectoryError):
        return []


def _link(folder: Path) -> LeftOut:
    reason = f"{folder} is a link, and links are not followed; put there what it leads to"
    return LeftOut(folder, "unreadable", reason)


def read_run(folder: Path, record_of: Callable[[Path], Record | None] = read_record) -> Run | LeftOut:
    """Read one folder; the arguments are those of `read_sweep`."""
    try:
        record = record_of(folder)
        if record is None and (folder / "config.yaml").exists() and not is_held(folder):  # else it is being entered
            raise InputError(
                f"{folder} has lost its record.json; to enter the run again, which goes on from its last checkpoint,"
                " repeat the command that began it"
            )
    except InputError as error:
        return LeftOut(folder, "unreadable", str(error))
    except OSError as error:
        return LeftOut(folder, "unreadable", f"{error.filename or folder}: {error.strerror}")
    if record is None:
        return LeftOut(folder, "no run", f"{folder} holds no run")
    if record["run_id"] != folder.name:
        return LeftOut(folder, "copy", f"{folder} holds the run {record['run_id']}, a copy that is not counted")
    return Run(folder, record)
