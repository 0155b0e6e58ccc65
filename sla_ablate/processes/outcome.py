"""What became of a run, told from its exit code and from what it logged."""

from __future__ import annotations

import signal
from collections.abc import Sequence


def reason(exit_code: int, lines: Sequence[str]) -> str:
    """Why a run failed: the signal that ended it, or the last line that it logged."""
    if exit_code < 0:
        hint = ", as the system does when memory runs out" if exit_code == -signal.SIGKILL else ""
        return f"ended by signal {-exit_code}: {signal.strsignal(-exit_code)}{hint}"
    last = next((line for line in reversed(lines) if line.strip()), "nothing logged")
    return f"exit code {exit_code}{'' if exit_code else ' without a result'}: {last}"


def traceback(lines: Sequence[str]) -> list[str] | None:
    """The last traceback of a log, of an exception or of a process that died; None if there is none."""
    heads = ("Traceback (most recent call last):", "Fatal Python error:")
    starts = [i for i, line in enumerate(lines) if line.startswith(heads)]
    return list(lines[starts[-1] :]) if starts else None
