"""Results repeated: do the lines of an item hold where they are checked?"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from sla_ablate.config.machine import processor_kind
from sla_ablate.errors import InputError
from sla_ablate.items.lines import Line, line_of, processor_of
from sla_ablate.items.work import Work, result_hash
from sla_ablate.launch.launch import carry_out_all
from sla_ablate.launch.plan import Run
from sla_ablate.runs.record import read_record

TOLERANCE = 2e-3
"""Nats per token by which two kinds of processor may differ after a whole training: rounding, amplified."""


def verify(work: Work, number: int) -> int:
    """Carry out so many runs that have lines again, drawn at random, and say how far they agree.

    Returns:
        The exit code: 0 if they agree, to the bit where processor and versions are the same, else to `TOLERANCE`.

    Raises:
        InputError: the item has no line.
    """
    lines = {result_hash(line["run_id"]): line for line in work.lines()}
    if not lines:
        raise InputError(f"{work.item.name} has no results at {work.scale} to verify; reproduce it first")
    runs = [run for run in work.runs if result_hash(run.folder.name) in lines]
    drawn = random.sample(runs, min(number, len(runs)))
    with tempfile.TemporaryDirectory(prefix="sla-ablate-") as folder:
        again = [_moved(run, Path(folder)) for run in drawn]
        carry_out_all(again, work.hydra)
        verdicts = [_compare(lines[result_hash(run.folder.name)], run) for run in again]
    print(f"{sum(verdicts)} of {len(verdicts)} agree")
    return 0 if all(verdicts) else 1


def _moved(run: Run, output: Path) -> Run:
    run.config.output = str(output)
    return Run(run.config, run.data_digest, run.vocab_size)


def _compare(line: Line, run: Run) -> bool:
    name = run.folder.name
    record = read_record(run.folder)
    if record is None or record["state"] != "done":
        print(f"{name}  was not carried out")
        return False
    repeated = line_of(record, run.data_digest, None)
    before, after = (each["validation"]["nll"] / each["validation"]["tokens"] for each in (line, repeated))
    same = processor_of(line) == processor_kind() and all(
        line["environment"][key] == repeated["environment"][key] for key in ("versions", "threads")
    )
    agree: bool = before == after if same else abs(before - after) <= TOLERANCE
    where = "same processor and versions" if same else f"recorded on {processor_of(line)}"
    how = "to the bit" if before == after else f"differs by {after - before:+.2e}"
    print(f"{name}  {before:.6f} recorded, {after:.6f} again, {how} ({where})")
    return agree
