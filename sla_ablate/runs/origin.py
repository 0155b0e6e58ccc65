"""`sla-ablate status RUN`: what a run is and where its result comes from, as its record says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sla_ablate.runs import ledger
from sla_ablate.runs.record import Record, existing_summary
from sla_ablate.text import escape


def describe(run: Path) -> str:
    """One line a fact.

    Raises:
        InputError: the folder is no run's, or its record is damaged.
    """
    record = existing_summary(run)
    told = [(name, escape.line(text)) for name, text in _facts(run, record) if text not in ("", "None")]
    width = max(len(name) for name, _ in told)
    return "\n".join(f"{name:{width}}  {text}".rstrip() for name, text in told)


def _facts(run: Path, record: Record) -> Iterator[tuple[str, str]]:
    cell = ledger.cell(run)
    yield "run", record["run_id"]
    yield "state", f"{cell.state}, step {cell.step} of {cell.steps}, attempt {cell.attempt}"
    yield "error", str(cell.error)
    yield "pattern", record["pattern"]["label"]
    yield "seed", str(record["seed"])
    data = record.get("data")
    yield "data", f"{data.get('name')}, digest {data.get('digest')}" if isinstance(data, Mapping) else ""
    yield "pairing", f"{record['pairing']}; setting {record['setting']}"
    if cell.validation_loss is not None:
        yield "validation loss", f"{cell.validation_loss:.4f} nats per token"
    yield "asked for by", str(cell.entered_by)
    for n, sitting in enumerate(record.get("sittings", []), 1):
        yield (
            f"sitting {n}",
            f"{sitting.get('began')} to {sitting.get('ended') or '?'}, on {sitting.get('host') or '?'}",
        )
        yield "  command", str(sitting.get("command"))
        yield "  code", _code(sitting)
    for name, value in record.get("environment", {}).items():
        yield name, ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else str(value)
    yield "log", str(run / "run.log")


def _code(sitting: Mapping[str, Any]) -> str:
    if sitting.get("git_commit") is None:
        return "as installed"
    changes = sitting.get("git_changes")
    return f"commit {sitting['git_commit']}" + (f" and changes {changes}, which are in no commit" if changes else "")
