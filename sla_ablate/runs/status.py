"""`sla-ablate status`: the ledger, shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from sla_ablate.errors import InputError
from sla_ablate.runs import ledger
from sla_ablate.runs.ledger import Cell
from sla_ablate.text import escape
from sla_ablate.text.words import as_json as to_json
from sla_ablate.text.words import duration

_WATCH_SECONDS = 2.0
_CLEAR = "\x1b[H\x1b[2J"


def show(sweep: Path | None, watch: bool, as_json: bool) -> bool:
    """Print the cells of a sweep, or a line for each sweep under runs/; again and again while runs are ahead.

    Returns:
        Whether every run could be read.
    """
    while True:
        text, cells = _sweep(sweep, as_json) if sweep else _sweeps(Path("runs"), as_json)
        print(f"{_CLEAR if watch and sys.stdout.isatty() else ''}{text}", flush=True)
        states = {cell.state for cell in cells}
        if not watch or states.isdisjoint(("running", "waiting")):
            return "unreadable" not in states
        time.sleep(_WATCH_SECONDS)


def _sweep(sweep: Path, as_json: bool) -> tuple[str, list[Cell]]:
    cells = ledger.cells(sweep)
    return to_json([_as_dict(cell) for cell in cells], indent=1) if as_json else table(cells), cells


def _sweeps(output: Path, as_json: bool) -> tuple[str, list[Cell]]:
    sweeps = {
        escape.line(path.name): _cells(path)
        for path in sorted({record.parents[1] for record in output.glob("*/*/record.json")})
    }
    if not sweeps:
        raise InputError(f"there are no sweeps under {output}; name the folder of one")
    if as_json:
        text = to_json({name: [_as_dict(cell) for cell in cells] for name, cells in sweeps.items()}, indent=1)
    else:
        width = max(map(len, sweeps))
        text = "\n".join(f"{name:{width}}  {ledger.summary(cells)}" for name, cells in sweeps.items())
    return text, [cell for cells in sweeps.values() for cell in cells]


def _cells(sweep: Path) -> list[Cell]:
    try:
        return ledger.cells(sweep)
    except InputError:  # all are unreadable
        return [ledger.cell(record.parent) for record in sorted(sweep.glob("*/record.json"))]


def table(cells: Sequence[Cell]) -> str:
    """One line a cell, and one for all."""
    columns: dict[str, Callable[[Cell], str]] = {
        "run": lambda cell: cell.run_id,
        "state": lambda cell: cell.state,
        "attempt": lambda cell: str(cell.attempt or ""),
        "step": lambda cell: f"{cell.step}/{cell.steps}" if cell.steps else "",
        "tokens/s": lambda cell: f"{cell.tokens_per_second:,.0f}" if cell.tokens_per_second else "",
        "left": lambda cell: duration(cell.seconds_left),
        "error": lambda cell: cell.error or "",
    }
    rows = [list(columns), *([escape.line(text(cell)) for text in columns.values()] for cell in cells)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join([*lines, "", ledger.summary(cells)])


def _as_dict(cell: Cell) -> dict[str, object]:
    return {**asdict(cell), "seconds_left": cell.seconds_left}
