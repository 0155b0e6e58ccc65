"""Whether what runs left is what they wrote: every digest is checked, whatever was remembered of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sla_ablate.errors import InputError
from sla_ablate.runs.digests import check, check_end
from sla_ablate.runs.record import CHECKPOINT, Record
from sla_ablate.runs.sweep import LeftOut, Run, read_run, read_sweep


def runs_of(path: Path) -> tuple[list[Run], list[LeftOut]]:
    """The run that a folder holds, or those of the sweep that it is.

    Raises:
        InputError: it is neither.
    """
    if (path / "record.json").exists() or (path / "config.yaml").exists():
        found = read_run(path)
        return ([found], []) if isinstance(found, Run) else ([], [found])
    sweep = read_sweep(path)
    return sweep.runs, sweep.left_out


def faults(run: Path, record: Record) -> Iterator[str]:
    """What is wrong with the files of a run, a line each; its record and results were read."""
    for name, value in record.get("digests", {}).items():
        try:
            check(run, {name: value})
        except FileNotFoundError:
            yield f"{run / name} is missing"
        except InputError as error:
            yield str(error)
    for path in sorted((run / CHECKPOINT).glob("*.ckpt")):
        try:
            check_end(path.parent, path.name)
        except InputError as error:
            yield str(error)
    if record["state"] == "done":
        yield from _sums(run, record)


def _sums(run: Path, record: Record) -> Iterator[str]:
    """What does not add up."""
    lengths = {len(record["results"]["validation"][name]) for name in ("documents", "nll", "tokens", "bytes", "words")}
    if len(lengths) > 1:
        yield f"{run / 'results.json'} has not as many losses as documents"
    optim, model = record["config"]["optim"], record["config"]["model"]
    if record["cost"]["tokens"] != optim["steps"] * optim["batch_size"] * model["block_size"]:
        yield f"{run / 'record.json'}: its tokens are not steps times batch size times block size"
