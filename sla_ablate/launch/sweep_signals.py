"""Signals that ask a sweep to stop: the first lets every run finish its step and save, the second does not.

Collected here, acted upon by `supervise`. Under a launcher with processes of its own, such as joblib's, the
launching process passes every signal on to them as SIGTERM; of a terminal's Ctrl-C, which reaches them as well,
they take no notice, so that one is one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from sla_ablate.processes.signals import ECHO_SECONDS

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)  # Slurm's and submitit's pre-emption

received: list[signal.Signals] = []
"""The signals that this process received, in order."""

_first = 0.0
_previous: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
_heeded = False


def listen() -> None:
    """Collect signals from now on instead of dying from them; that the terminal is gone ends nothing."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in _SIGNALS:
        if signal.getsignal(number) is not _receive:
            _previous[number] = signal.signal(number, _receive)


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """While the block runs, it looks at `received` itself: no signal ends it."""
    global _heeded
    _heeded = True
    try:
        yield
    finally:
        _heeded = False


def follow() -> None:
    """Do what the first signal would have done without this module, now that the run is put away.

    In a job of submitit that is submitit's own handler, which has Slurm queue the job again.
    """
    if _in_launchers_process():
        return  # an exception would have joblib kill its other processes before they have saved
    handler = _previous.get(received[0])
    if callable(handler):
        handler(received[0], None)
    raise KeyboardInterrupt


def _receive(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGINT and _in_launchers_process():
        return
    global _first
    now = time.monotonic()
    if received and now - _first <= ECHO_SECONDS:
        return
    _first = _first if received else now
    received.append(signal.Signals(number))
    children = multiprocessing.active_children()
    for child in children:
        if child.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGTERM)
    if _in_launchers_process() or _heeded:
        return
    if not children or len(received) > 2:
        raise KeyboardInterrupt


def _in_launchers_process() -> bool:
    return multiprocessing.parent_process() is not None
