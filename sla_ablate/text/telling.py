"""What people are told while something goes on: lines that stay, and notes of what goes on just now.

On a terminal a command may show a block that stays in place (`sla_ablate.processes.live`). It reads what its own and
all processes below it print, through a pipe in the place of their output, and shows a note until something newer is
known. Everywhere else both are plain lines.
"""

from __future__ import annotations

import os
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from sla_ablate.text import escape

NOTE = "\x1e"
"""What a note begins with on its way to a block."""
BLOCK = "SLA_ABLATE_BLOCK"
"""The environment variable that names the pipe to a block, by `identity`: other output of a process is no such pipe."""
_PATIENCE = 1.5
"""Seconds that a wait may take without a word."""


def tell(line: str, aside: bool = False, mark: str = "") -> None:
    """Print a line.

    Args:
        line: to print; it may be several, and what a terminal would take as a command is shown as text.
        aside: on stderr, as what is no result.
        mark: what it begins with on its way to a block.
    """
    print(f"{mark}{escape.lines(line)}", file=sys.stderr if aside else sys.stdout, flush=True)


def tell_next(where: Path, command: str) -> None:
    """Tell where things are and the command that usually follows, as the last line of a command.

    Args:
        where: the file or folder.
        command: what follows `sla-ablate`.
    """
    tell_aside(f"{short(where)}; next: sla-ablate {command}")


def short(path: Path) -> str:
    """A path as short as it can be written in a shell: from the working folder on, if it is in there."""
    absolute = path.absolute()
    inside = absolute.is_relative_to(Path.cwd())
    return shlex.quote(str(absolute.relative_to(Path.cwd()) if inside else absolute))


def tell_aside(line: str) -> None:
    """Tell what is no result, on stderr."""
    tell(line, aside=True)


@contextmanager
def waiting(what: str, say: Callable[[str], object]) -> Iterator[None]:
    """Say what is waited for, if the block takes longer than a moment."""
    timer = threading.Timer(_PATIENCE, say, [what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Voice:
    """Tells what one run has to say: what it is called with stays, a note does not.

    Args:
        source: the run's name.
        log: where both are written too.
    """

    def __init__(self, source: str, log: TextIO | None = None) -> None:
        self._source = source
        self._log = log

    def __call__(self, line: str) -> None:
        """Tell a line that stays."""
        self._say(line)

    def note(self, line: str) -> None:
        """Tell what goes on just now."""
        self._say(line, NOTE if has_block() else "")

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Note what is waited for, if the block takes longer than a moment, and in the end that it no longer is."""
        noted = threading.Event()

        def note(line: str) -> None:
            noted.set()
            self.note(line)

        with waiting(what, note):
            yield
        if noted.is_set() and has_block():
            tell(f"{self._source}  ", mark=NOTE)

    def _say(self, line: str, mark: str = "") -> None:
        tell(f"{self._source}  {line}", mark=mark)
        if self._log is not None:
            print(escape.lines(f"{self._source}  {line}"), file=self._log, flush=True)


class Silence(Voice):
    """The voice of whoever leaves it to another to tell."""

    def _say(self, line: str, mark: str = "") -> None: ...


def has_block() -> bool:
    """Tell whether what this process prints goes to a block."""
    pipe = os.environ.get(BLOCK)
    return pipe is not None and pipe == identity(1)


def identity(descriptor: int) -> str | None:
    """Tells one open pipe from another, across processes; None for a closed descriptor."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return f"{status.st_dev}:{status.st_ino}"
