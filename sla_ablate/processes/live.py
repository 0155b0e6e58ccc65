"""A block on a terminal that stays in place: a bar for the whole and one for each part that is going on.

What is printed meanwhile, by this process or those that it starts, scrolls above it. Nothing that goes wrong with
showing ends what is shown.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from select import select
from typing import TYPE_CHECKING

from sla_ablate.text.telling import BLOCK, NOTE, identity

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

_SECONDS = 0.5
"""The least time between two looks."""
_SHARE = 0.01
"""The most of one processor's time that looking and drawing take."""


@dataclass(frozen=True)
class Bar:
    """How far something is."""

    name: str
    done: float
    of: float | None
    """What `done` will be in the end; None: nobody knows."""
    text: str


@dataclass(frozen=True)
class View:
    """What a block shows."""

    whole: Bar
    parts: Sequence[Bar]
    """Those that are going on."""
    ended: Sequence[tuple[str, str]] = ()
    """Parts that have ended since the view before, with what became of them, told if they do not tell it themselves."""


@contextmanager
def shown(begin: Callable[[], Callable[[], View]]) -> Iterator[None]:
    """Show on a terminal, while the block lasts, how far things are; elsewhere do nothing.

    Args:
        begin: gives, where there is a terminal, what is called again and again, in a thread, for what is to be seen.
    """
    if sys.stdout is None or not sys.stdout.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        yield
        return
    from rich.console import Console

    encoding = sys.stdout.encoding
    with ExitStack() as stack:
        screen = os.fdopen(os.dup(1), "w", encoding=encoding, errors="replace")
        stack.callback(_quietly, screen.close)
        block = Block(Console(file=screen, force_terminal=True), begin())
        stop = threading.Event()
        reader = threading.Thread(target=_follow, args=(block, screen.fileno(), stop), daemon=True)
        stack.callback(reader.join)
        stack.callback(stop.set)
        for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
            if os.isatty(descriptor):
                _quietly(stream.flush)
                stack.callback(os.close, kept := os.dup(descriptor))
                stack.callback(os.dup2, kept, descriptor)
                stack.callback(_quietly, stream.flush)
                os.dup2(_pipe()[1], descriptor)
        reader.start()
        yield


@cache
def _pipe() -> tuple[int, int]:
    """The two ends of the one pipe of this process: what it started may outlive a block."""
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    os.environ[BLOCK] = str(identity(theirs))
    return ours, theirs


def _quietly(action: Callable[[], object]) -> None:
    with suppress(OSError):
        action()


def _follow(block: Block, screen: int, stop: threading.Event) -> None:
    """Read the pipe and look, until told to stop and the pipe is empty."""
    pipe = _pipe()[0]
    due = time.monotonic()
    while True:
        stopping = stop.is_set()
        select([pipe], [], [], 0 if stopping else max(0.0, min(due - time.monotonic(), _SECONDS)))
        data = b""
        with suppress(BlockingIOError):
            data = os.read(pipe, 1 << 16)
        block.read(data)
        started = time.monotonic()
        if started >= due or stopping:
            with suppress(OSError):
                block.resize(*os.get_terminal_size(screen))
            block.look()
            ended = time.monotonic()
            due = ended + max(_SECONDS, (ended - started) / _SHARE)
        if stopping and not data:
            break
    block.close()


class Block:
    """Draws on a console.

    Args:
        console: what it draws on.
        look: tells what is to be seen.
    """

    def __init__(self, console: Console, look: Callable[[], View]) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = console
        self._look = look
        self._unread = b""
        self._notes: dict[str, _Note] = {}
        self._told: set[str] = set()
        self._untold: Sequence[tuple[str, str]] = ()
        self._tasks: dict[str, TaskID] = {}
        self._lost = False
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[text]}", markup=False),
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._draw(self._progress.start)
        self._draw(console.show_cursor)  # a process that is killed could not bring it back

    def read(self, data: bytes) -> None:
        """Take what was printed: lines scroll above the bars, a note stands beside a part until that goes on."""
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._take(line.decode(errors="replace").rpartition("\r")[2])

    def look(self) -> None:
        """See how far things are, and draw it."""
        try:
            view = self._look()
        except Exception:  # such as a record that is damaged: the sweep will say so
            return
        self._tell_ended(view.ended)
        parts = {part.name: part for part in view.parts}
        for name, note in list(self._notes.items()):
            part = parts.get(name, Bar(name, 0, None, ""))
            if note.at is None:  # what was done before it was printed is seen now for the first time
                note.at = part.done
            if part.done == note.at:
                parts[name] = replace(part, text=note.text)
            else:
                del self._notes[name]
        self._draw(self._show, [view.whole, *parts.values()])

    def resize(self, width: int, height: int) -> None:
        """Draw for a terminal of so many columns and lines from now on; 0 if it does not know."""
        from rich.console import ConsoleDimensions

        if width and height:
            self._console.size = ConsoleDimensions(width, height)

    def close(self) -> None:
        """Remove the bars; what has scrolled stays."""
        if self._unread:
            self.read(b"\n")
        self._tell_ended([])
        self._draw(self._progress.stop)

    def _take(self, line: str) -> None:
        source, blanks, text = line.removeprefix(NOTE).partition("  ")
        if blanks:
            self._notes.pop(source, None)
        if not line.startswith(NOTE):
            self._told.add(source)
            self._print(line)
        elif text:
            self._notes[source] = _Note(text)

    def _tell_ended(self, ended: Sequence[tuple[str, str]]) -> None:
        """Tell of those that had ended at the look before and, printing elsewhere, have not been heard of since."""
        for name, became in self._untold:
            if name not in self._told:
                self._print(f"{name}  {became}")
        self._untold = ended
        for name, _ in ended:
            self._notes.pop(name, None)

    def _show(self, bars: Sequence[Bar]) -> None:
        for name in self._tasks.keys() - {bar.name for bar in bars}:
            self._progress.remove_task(self._tasks.pop(name))
        for bar in bars:
            if bar.name not in self._tasks:
                self._tasks[bar.name] = self._progress.add_task(bar.name, visible=False, text="")
            task = self._tasks[bar.name]
            self._progress.update(task, total=bar.of, completed=bar.done, visible=True, text=bar.text)
        self._progress.refresh()

    def _print(self, line: str) -> None:
        from rich.text import Text

        self._draw(lambda: self._console.print(Text.from_ansi(line), soft_wrap=True))

    def _draw(self, action: Callable[..., object], *arguments: object) -> None:
        """Draw, unless that has failed before: the terminal is gone then, and only the reading goes on."""
        try:
            if not self._lost:
                action(*arguments)
        except Exception:
            self._lost = True


@dataclass
class _Note:
    text: str
    at: float | None = None
    """How far its part was."""
