"""The main memory that a process owns: not the pages of files that it has mapped, such as a corpus's."""

from __future__ import annotations

import re
from pathlib import Path

_PROC = Path("/proc")
_OWNED = re.compile(r"^Rss(?:Anon|Shmem):\s*(\d+) kB", re.MULTILINE)


def owned_bytes(process: int | str = "self") -> int:
    """Resident anonymous and shared memory of a process; 0 where Linux's /proc is missing, or the process."""
    try:
        status = (_PROC / str(process) / "status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return 1024 * sum(int(kilobytes) for kilobytes in _OWNED.findall(status))


def group_bytes(group: int) -> int:
    """What all processes of a group own together: a run's ranks and those that read its batches."""
    return sum(owned_bytes(path.name) for path in _PROC.glob("[0-9]*") if _group_of(path) == group)


def _group_of(process: Path) -> int | None:
    try:
        stat = (process / "stat").read_text(encoding="utf-8")
    except OSError:  # it has ended
        return None
    return int(stat.rpartition(")")[2].split()[2])
