"""What one process makes while the others wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sla_ablate.text.telling import waiting


@contextmanager
def locked(path: Path, log: Callable[[str], object]) -> Iterator[None]:
    """Hold the lock of what `path` will name, and say so if another process has it for long."""
    from filelock import FileLock

    with waiting(f"waiting for another process that makes {path}", log):
        lock = FileLock(f"{path}.lock").acquire()
    with lock:
        yield
