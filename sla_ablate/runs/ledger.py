"""The ledger of a sweep: its run folders, each with the state that its record tells.

A run is entered as `waiting` before anything starts, so that what is still to come is known too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sla_ablate.config.schema import RunConfig
from sla_ablate.data.corpora import corpus_name
from sla_ablate.errors import InputError
from sla_ablate.files import claim, is_held
from sla_ablate.runs import swept
from sla_ablate.runs.identity import SCHEMA, Identity, identify, run_folder
from sla_ablate.runs.metrics import Line, last_metrics
from sla_ablate.runs.record import FINAL, Record, read_config, read_summary, write_config, write_record
from sla_ablate.runs.sweep import LeftOut, read_sweep
from sla_ablate.text.words import duration

STATES = ("done", "running", "waiting", "interrupted", "diverged", "failed", "unreadable", "unknown", "removed")
LEFT_OUT = ("copy", "no run")
"""States of folders that are no runs."""
URGENT = (
    "failed",
    "unreadable",
    "running",
    "interrupted",
    "diverged",
    "waiting",
    "unknown",
    "done",
    "removed",
    *LEFT_OUT,
)
"""All states, first what has to be seen first."""


@dataclass(frozen=True)
class Cell:
    """How far one run of a sweep is."""

    run_id: str
    state: str
    attempt: int
    step: int
    steps: int
    tokens_per_step: int
    tokens_per_second: float | None
    error: str | None
    loss: float | None = None
    """The last training loss that is told, in nats per token."""
    validation_loss: float | None = None
    """The last validation loss that is told, in nats per token."""
    began: str | None = None
    """The time at which its last attempt began, UTC, in ISO 8601."""
    host: str | None = None
    """The machine of its last attempt."""
    swept: Mapping[str, Any] = field(default_factory=dict)
    """The values of the keys that tell it from other runs of the sweep."""
    entered_by: str | None = None
    """The command line that asked for it first."""

    @property
    def seconds_left(self) -> float | None:
        """Seconds of training that are left, for a run that is training."""
        if self.state != "running" or not self.tokens_per_second:
            return None
        return (self.steps - self.step) * self.tokens_per_step / self.tokens_per_second


def enter(config: RunConfig, data_digest: str, command: str | None = None) -> None:
    """Enter a run as waiting, or have one that has not ended carried out with this configuration from now on.

    Args:
        config: the run's.
        data_digest: `TokenShards.digest` of its data.
        command: the command line that asks for it, without secrets.

    Raises:
        InputError: its folder holds a run of another configuration, which is left as it is, or is a link.
    """
    identity = identify(config, data_digest)
    folder = run_folder(config, identity)
    if folder.is_symlink():
        raise InputError(f"{folder} is a link, and such are not followed; put there what it leads to")
    folder.mkdir(parents=True, exist_ok=True)
    with claim(folder, patience=0) as lock:
        record = read_summary(folder)
        if record is not None:
            check_folder(folder, record, config, data_digest)
        if lock is None:
            return
        if record is not None and record["state"] in FINAL:
            if config.pattern.label is not None and record["pattern"]["label"] != config.pattern_label():
                record["pattern"]["label"] = config.pattern_label()
                write_record(folder, record)
            return
        write_config(folder, config)
        record = record or {**_new_record(config, identity, data_digest), "entered_by": command}
        write_record(folder, record | {"command": command})


def check_folder(folder: Path, record: Record, config: RunConfig, data_digest: str) -> None:
    """Make sure that a folder is this run's: by its name, its record and its configuration.

    A function that makes the pattern and that only the folder names is not called: it may be somebody else's.

    Raises:
        InputError: it is another's.
    """
    identity = identify(config, data_digest)
    recorded = Identity(record["run_id"], record["pairing"], record["setting"])
    stored = read_config(folder)
    if ":" in stored.pattern.name and stored.pattern.name != config.pattern.name:
        stored.pattern = config.pattern
    if not folder.name == identity.run_id or recorded != identity or identify(stored, data_digest) != identity:
        raise InputError(
            f"{folder} holds a run of another configuration, or of other data, than its name says; "
            "move it away to have the run again"
        )


def _new_record(config: RunConfig, identity: Identity, data_digest: str) -> Record:
    pattern = config.skip_pattern()
    return {
        "schema": SCHEMA,
        **asdict(identity),
        "state": "waiting",
        "attempt": 0,
        "error": None,
        "seed": config.seed,
        "data": {"name": corpus_name(config.data), "digest": data_digest},
        "pattern": {
            "name": config.pattern.name,
            "label": config.pattern_label(),
            "key_source": pattern.key_source.tolist(),
            "value_source": pattern.value_source.tolist(),
        },
        "config": asdict(config),
    }


def state_of(folder: Path) -> str:
    """The state of the run of a folder; `unreadable` where `cell` says why."""
    try:
        return state(folder, read_summary(folder))
    except (InputError, OSError):
        return "unreadable"


def state(folder: Path, record: Record | None) -> str:
    """The state of a run, from its record and from whether the process that wrote it still lives."""
    if record is None:
        return "waiting"
    if record["state"] == "running" and not is_held(folder):
        return "interrupted"  # killed, so that it could not say so
    recorded: str = record["state"]
    return recorded


def cells(sweep: Path, choose: Callable[[list[Record]], list[Record]] = list) -> list[Cell]:
    """How far each run of a sweep is, and what its other folders are; in the order of `URGENT`, then by id.

    Args:
        sweep: its folder.
        choose: which of the runs count, from their records.

    Raises:
        InputError: it holds no runs.
    """
    found = read_sweep(sweep, read_summary)
    chosen = choose(found.records)
    told = {id(record): values for record, values in zip(chosen, swept.columns(chosen), strict=True)}
    every = [
        replace(_cell(run.folder, run.record), swept=told[id(run.record)])
        for run in found.runs
        if id(run.record) in told
    ] + [_other(each) for each in found.left_out]
    return sorted(every, key=lambda cell: (URGENT.index(cell.state), cell.run_id))


def cell(folder: Path) -> Cell:
    """How far the run of a folder is."""
    try:
        record = read_summary(folder)
        return Cell(folder.name, "waiting", 0, 0, 0, 0, None, None) if record is None else _cell(folder, record)
    except (InputError, OSError) as error:
        return _other(LeftOut(folder, "unreadable", str(error)))


def _other(folder: LeftOut) -> Cell:
    return Cell(folder.folder.name, folder.state, 0, 0, 0, 0, None, folder.reason)


def _cell(folder: Path, record: Record) -> Cell:
    try:
        return _cell_of(folder, record)
    except (InputError, OSError) as error:
        return _other(LeftOut(folder, "unreadable", str(error)))


def _cell_of(folder: Path, record: Record) -> Cell:
    config, now = record["config"], state(folder, record)
    steps = config["optim"]["steps"]
    lines = [] if now == "waiting" else last_metrics(folder)
    if now == "done":
        step, speed = steps, record["cost"]["tokens_per_second"]
    else:
        step, speed = max((line["step"] for line in lines), default=0), _last(lines, "tokens_per_second")
    sittings = record.get("sittings") or [{}]
    return Cell(
        run_id=folder.name,
        state=now,
        attempt=record["attempt"],
        step=step,
        steps=steps,
        tokens_per_step=config["optim"]["batch_size"] * config["model"]["block_size"],
        tokens_per_second=speed,
        error=record["error"],
        loss=_last(lines, "loss"),
        validation_loss=_last(lines, "validation_loss"),
        began=sittings[-1].get("began"),
        host=sittings[-1].get("host"),
        entered_by=record.get("entered_by") or sittings[0].get("command"),
    )


def unknown(config: RunConfig) -> Cell:
    """What can be told of a run whose corpus is yet to be tokenized: what it is, not how far it is."""
    per_step = config.optim.batch_size * config.model.block_size
    run_id = f"{config.pattern_slug()}-s{config.seed}-…"
    return Cell(run_id, "unknown", 0, 0, config.optim.steps, per_step, None, None, None)


def _last(lines: Sequence[Line], name: str) -> float | None:
    """The last value of a metric that is told."""
    return next((line[name] for line in reversed(lines) if name in line), None)


def count(states: Iterable[str]) -> str:
    """How many of each state, in words."""
    counts = Counter(states)
    return ", ".join(f"{counts[name]} {name}" for name in STATES if counts[name]) or "none"


def summary(cells: Sequence[Cell]) -> str:
    """How many cells of each state, their speed and the time that is left, in one line."""
    runs = [cell for cell in cells if cell.state not in LEFT_OUT]
    line = f"{len(runs)} run(s): {count(cell.state for cell in runs)}"
    if others := len(cells) - len(runs):
        line += f"; {others} other folder(s)"
    speed = sum(cell.tokens_per_second or 0 for cell in cells if cell.state == "running")
    if not speed:
        return line
    ahead = sum(
        (cell.steps - cell.step) * cell.tokens_per_step for cell in cells if cell.state in ("running", "waiting")
    )
    return f"{line}; {speed:,.0f} tokens/s, about {duration(ahead / speed)} left"
