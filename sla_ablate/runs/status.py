"""`sla-ablate status`: the ledger, shown."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path

from sla_ablate.errors import InputError
from sla_ablate.runs import ledger
from sla_ablate.runs.ledger import Cell
from sla_ablate.runs.record import Record
from sla_ablate.runs.swept import short, spelled
from sla_ablate.text import escape
from sla_ablate.text.words import as_json as to_json
from sla_ablate.text.words import duration

_WATCH_SECONDS = 2.0
_CLEAR = "\x1b[H\x1b[2J"
_COLOURS = {**dict.fromkeys(("failed", "unreadable", "diverged"), 31), "running": 32, "interrupted": 33, "waiting": 2}
"""What a terminal shows lines of a state in."""
_LESS = ("attempt", "host", "began (UTC)", "tokens/s", "validation", "left")
"""Columns that give way where a line is too long, in this order."""
_ROOM = 40
"""Characters that an error is given before other columns are."""
_UNLIMITED = 10**6

Choose = Callable[[list[Record]], list[Record]]


def show(
    sweep: Path | None, watch: bool, as_json: bool, states: Collection[str] = (), choose: Choose | None = None
) -> bool:
    """Print the cells of a sweep, or a line for each sweep under runs/; again and again while runs are ahead.

    Args:
        sweep: its folder; None: all under runs/.
        watch: again every two seconds.
        as_json: all that is known, for programs.
        states: those of the runs that are printed; none: all.
        choose: which runs are printed, from their records.

    Returns:
        Whether every run could be read.
    """
    while True:
        text, cells = _sweep(sweep, as_json, states, choose or list) if sweep else _sweeps(Path("runs"), as_json)
        print(f"{_CLEAR if watch and sys.stdout.isatty() else ''}{text}", flush=True)
        found = {cell.state for cell in cells}
        if not watch or found.isdisjoint(("running", "waiting")):
            return "unreadable" not in found
        time.sleep(_WATCH_SECONDS)


def _sweep(sweep: Path, as_json: bool, states: Collection[str], choose: Choose) -> tuple[str, list[Cell]]:
    cells = ledger.cells(sweep, choose)
    shown = [cell for cell in cells if not states or cell.state in states]
    if as_json:
        return to_json([_as_dict(cell) for cell in shown], indent=1), cells
    return "\n".join([*_lines(shown), "", ledger.summary(cells), *_commands(cells)]), cells


def _commands(cells: Sequence[Cell]) -> list[str]:
    """The command lines that asked for these runs, ready to be given again, widened."""
    found = dict.fromkeys(cell.entered_by for cell in cells if cell.entered_by)
    return [f"made by: {escape.line(command)}" for command in found]


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
    return "\n".join([*_lines(cells), "", ledger.summary(cells)])


def _lines(cells: Sequence[Cell]) -> list[str]:
    """One line a cell, below the names of the columns that some cell has something in and that there is room for."""
    keys = list(dict.fromkeys(key for cell in cells for key in cell.swept))
    columns: dict[str, Callable[[Cell], str]] = {
        "run": lambda cell: cell.run_id,
        "state": lambda cell: cell.state,
        **{name: lambda cell, key=key: _value(cell, key) for key, name in short(keys).items()},  # type: ignore[misc]
        "step": lambda cell: f"{cell.step}/{cell.steps}" if cell.steps else "",
        "loss": lambda cell: _number(cell.loss, ".3f"),
        "validation": lambda cell: _number(cell.validation_loss, ".4f"),
        "tokens/s": lambda cell: _number(cell.tokens_per_second, ",.0f"),
        "left": lambda cell: duration(cell.seconds_left),
        "attempt": lambda cell: str(cell.attempt or ""),
        "began (UTC)": lambda cell: (cell.began or "")[5:16].replace("T", " "),
        "host": lambda cell: cell.host or "",
        "error": lambda cell: cell.error or "",
    }
    texts = {name: [escape.line(text(cell)) for cell in cells] for name, text in columns.items()}
    texts = {name: column for name, column in texts.items() if any(column) or name in ("run", "state")}
    widths = {name: max(map(len, [name, *column])) for name, column in texts.items()}
    room = _width()
    for name in _LESS:
        if sum(min(width, _ROOM) if each == "error" else width + 2 for each, width in widths.items()) <= room:
            break
        widths.pop(name, None)
    rows = [list(widths), *zip(*(texts[name] for name in widths), strict=True)]
    told = (
        "  ".join(f"{text:{width}}" for text, width in zip(row, widths.values(), strict=True)).rstrip() for row in rows
    )
    lines = [line if len(line) <= room else f"{line[: room - 1]}…" for line in told]
    return [lines[0], *(_coloured(line, cell.state) for line, cell in zip(lines[1:], cells, strict=True))]


def _value(cell: Cell, key: str) -> str:
    value = cell.swept.get(key)
    return "" if value is None else spelled(value)


def _number(value: float | None, spec: str) -> str:
    return "" if value is None else format(value, spec)


def _width() -> int:
    """The columns of the terminal; where there is none, as many as it takes."""
    return shutil.get_terminal_size((_UNLIMITED, 24)).columns


def _coloured(line: str, state: str) -> str:
    if state not in _COLOURS or not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return line
    return f"\x1b[{_COLOURS[state]}m{line}\x1b[0m"


def _as_dict(cell: Cell) -> dict[str, object]:
    return {**asdict(cell), "seconds_left": cell.seconds_left}
