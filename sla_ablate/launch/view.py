"""How far a sweep is, from its ledger: wherever its runs are carried out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sla_ablate.launch import sweep_signals
from sla_ablate.processes.live import Bar, View
from sla_ablate.runs import ledger
from sla_ablate.runs.ledger import Cell
from sla_ablate.runs.record import record_stamp
from sla_ablate.text.words import duration, training


class SweepView:
    """Tells what a block shows of a sweep; what a look costs is a matter of how many of its runs are going on.

    Args:
        name: of the sweep.
        folders: of its runs.
        before: runs that were carried out before these.
        after: runs that will be carried out after these.
    """

    def __init__(self, name: str, folders: Sequence[Path], before: int = 0, after: int = 0) -> None:
        self._name = name
        self._others = before, after
        self._stamps: dict[Path, int | None] = {folder: record_stamp(folder) for folder in folders}
        self._cells = {folder: ledger.cell(folder) for folder in folders}
        self._attempts = {folder: cell.attempt for folder, cell in self._cells.items()}
        self._ahead = {folder for folder in folders if not self._has_ended(folder)}
        self._start = time.monotonic(), self._tokens()
        """When runs began to train, and how far they were."""

    def __call__(self) -> View:
        """Look at what may have changed."""
        for folder in self._ahead:
            stamp = record_stamp(folder)
            if stamp != self._stamps[folder] or self._cells[folder].state == "running":
                self._cells[folder] = ledger.cell(folder)
                self._stamps[folder] = stamp
        ended = {folder for folder in self._ahead if self._has_ended(folder)}
        self._ahead -= ended
        running = [cell for cell in self._cells.values() if cell.state == "running"]
        return View(
            self._whole(),
            [Bar(cell.run_id, cell.step, cell.steps, _how_far(cell)) for cell in running],
            [(folder.name, _what_became_of(self._cells[folder])) for folder in ended],
        )

    def _has_ended(self, folder: Path) -> bool:
        """Whether a run is done, or was begun and ended in this sitting: what had failed before is tried again."""
        cell = self._cells[folder]
        return cell.state == "done" or (
            cell.state not in ("running", "waiting") and cell.attempt > self._attempts[folder]
        )

    def _tokens(self) -> float:
        """What was trained on, with all that runs that have ended would have taken."""
        return sum(
            cell.tokens_per_step * (cell.step if folder in self._ahead else cell.steps)
            for folder, cell in self._cells.items()
        )

    def _whole(self) -> Bar:
        before, after = self._others
        tokens, of = self._tokens(), sum(cell.tokens_per_step * cell.steps for cell in self._cells.values())
        count = len(self._cells)
        words = [f"{before + count - len(self._ahead)}/{before + count + after} runs"]
        states = Counter(cell.state for folder, cell in self._cells.items() if folder not in self._ahead)
        words += [f"{number} {state}" for state, number in states.items() if state != "done"]
        if sweep_signals.received:
            words.append("asked to stop: runs finish their step and save")
        elif tokens == self._start[1]:
            self._start = time.monotonic(), tokens
        else:
            speed = (tokens - self._start[1]) / (time.monotonic() - self._start[0])
            words.append(f"{duration((of - tokens + after * of / count) / speed)} left")
        return Bar(self._name, tokens + before * of / count, of + (before + after) * of / count, ", ".join(words))


def _how_far(cell: Cell) -> str:
    if cell.loss is None or cell.tokens_per_second is None:
        return "starting"
    return training(cell.step, cell.steps, cell.loss, cell.tokens_per_second, cell.seconds_left)


def _what_became_of(cell: Cell) -> str:
    return f"{cell.state}: {cell.error}" if cell.error else cell.state
