"""The standard streams of a process: what cannot be written to them is lost, and ends nothing."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO, cast


def settle() -> None:
    """Have this process go on where nobody reads what it prints: a closed pipe, a terminal that is gone, a full disk.

    A standard stream that was closed from the start is the null device, lest a file that is opened later takes its
    number. Streams that were replaced, as a notebook does, are left alone.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free, which is this one
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 (of a descriptor)
    sys.stdout = _settled(sys.stdout, 1)
    sys.stderr = _settled(sys.stderr, 2)


class _Lossy(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            written = cast("int | None", super().write(data))
        except OSError:
            written = None
        return memoryview(data).nbytes if written is None else written


def _settled(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is None:
        return _stream(descriptor, encoding="utf-8", errors="replace", line_buffering=descriptor == 2)
    if type(stream) is not io.TextIOWrapper:
        return stream
    raw = getattr(stream.buffer, "raw", stream.buffer)  # of `python -u` it has no buffer
    if isinstance(raw, _Lossy) or not isinstance(raw, io.FileIO) or raw.fileno() != descriptor:
        return stream
    return _stream(
        descriptor,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _stream(descriptor: int, **options: Any) -> TextIO:
    return io.TextIOWrapper(io.BufferedWriter(_Lossy(descriptor, "w", closefd=False)), **options)
