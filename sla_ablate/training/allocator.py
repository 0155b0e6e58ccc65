"""The C library's allocator, set for training."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Keep freed memory in the process, where the C library is glibc; elsewhere, do nothing.

    By default glibc gives large blocks back to the system, which then has to fault in and clear the same
    memory in every training step: 3 to 7 % of its time on a CPU (`benchmarks/README.md`).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
        mallopt(_M_MMAP_THRESHOLD, _NEVER)
