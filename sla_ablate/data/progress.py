"""How far a pass over the corpus has come, as plain lines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SECONDS = 5.0
_FIRST_SECONDS = 1.0


class Progress:
    """Counts documents, if there are any, and bytes, and says so every few seconds and at the end."""

    def __init__(self, task: str, log: Callable[[str], object]) -> None:
        self._task = task
        self._log = log
        self._start = time.monotonic()
        self._last = self._start - _SECONDS + _FIRST_SECONDS
        self._documents = self._bytes = 0

    def add(self, n_bytes: int, documents: int = 1) -> None:
        """Count one document, or so many."""
        self._documents += documents
        self._bytes += n_bytes
        if time.monotonic() - self._last > _SECONDS:
            self.report()

    def report(self) -> None:
        """Say how far it has come."""
        self._last = time.monotonic()
        megabytes = self._bytes / 1e6
        rate = megabytes / max(self._last - self._start, 1e-9)
        documents = f"{self._documents:,} documents, " if self._documents else ""
        self._log(f"{self._task}: {documents}{megabytes:,.1f} MB, {rate:.1f} MB/s")


@contextmanager
def waiting(task: str, log: Callable[[str], object]) -> Iterator[None]:
    """Say what is begun, and every few seconds how long the block has taken: of what does not tell how far it is."""

    def tell() -> None:
        while not ended.wait(_SECONDS):
            log(f"{task}: {time.monotonic() - start:.0f} s")

    log(task)
    start, ended = time.monotonic(), threading.Event()
    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()
