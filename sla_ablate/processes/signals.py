"""Signals that ask a run to end early.

This module imports nothing slow, for a run listens before it imports what is.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 75
"""Exit code of a run that a signal ended: nothing is wrong, the same command goes on (EX_TEMPFAIL in sysexits.h)."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)  # the last two: Slurm's and submitit's
ECHO_SECONDS = 1.0
"""A terminal, `timeout` and Slurm signal every process of a job, some twice: within this time it is one signal."""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Interruption:
    """What a signal does: the process ends at once with `INTERRUPTED`, but while it trains after the current step.

    A second signal ends it at once in any case; the last checkpoint is good whenever that happens.
    """

    def __init__(self) -> None:
        self.requested = False
        self._training = False
        self._first = 0.0
        self._handler: Callable[[int, FrameType | None], None] | signal.Handlers = self._receive

    def listen(self) -> None:
        """Take the signals over, from whoever handles them, and those that were put off."""
        for number in _SIGNALS:
            signal.signal(number, self._handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def put_off(self) -> None:
        """Have signals wait until `listen`, whoever handles them meanwhile."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    def leave_to_parent(self) -> None:
        """Take no notice of signals from now on, in a process that was forked, and end with the parent (on Linux)."""
        self._handler = signal.SIG_IGN
        self.listen()
        end_with_parent(signal.SIGKILL)

    @contextmanager
    def training(self) -> Iterator[None]:
        """While the block trains, it looks at `requested` after every step."""
        self._training = True
        try:
            yield
        finally:
            self._training = False
            self.listen()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._training and not self.requested:
            self.requested, self._first = True, now
        elif not self._training or now - self._first > ECHO_SECONDS:
            # No clean-up could be more reliable than none: every file is whole at every moment.
            os._exit(INTERRUPTED)


def in_data_worker(worker: int) -> None:
    """Have a process that reads batches leave signals to the training process, and end with it (on Linux)."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    end_with_parent(signal.SIGKILL)


def end_with_parent(number: signal.Signals) -> None:
    """Have the system send this process a signal when its parent ends, however that ends (on Linux)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, number)
