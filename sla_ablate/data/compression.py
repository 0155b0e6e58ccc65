"""Files of a corpus opened for reading, unpacked on the way, up to a bound on what they may unpack to."""

from __future__ import annotations

import gzip
import io
import lzma
from pathlib import Path
from typing import cast

from sla_ablate.errors import InputError
from sla_ablate.text.words import size

COMPRESSIONS = (".gz", ".xz", ".zst")
_RATIO = 100
"""How many times its size a file may unpack to; text unpacks to ten times, rarely to fifty."""
_ANY_FILE = 256_000_000
"""Bytes that every file may unpack to."""


class Allowance:
    """What a file may still unpack to, in bytes: less than a small file that was made to fill a machine would."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._packed = path.stat().st_size
        self._left = self._bound = max(_ANY_FILE, _RATIO * self._packed)

    def take(self, n_bytes: int) -> None:
        """Count bytes that were unpacked, or that the file says it unpacks to.

        Raises:
            InputError: they are more than the file may unpack to.
        """
        self._left -= n_bytes
        if self._left < 0:
            raise InputError(
                f"{self._path}: its {size(self._packed)} unpack to more than {size(self._bound)}, which no text does; "
                "give it unpacked, as .txt or .jsonl, if it is meant"
            )


def open_unpacked(path: Path) -> io.BufferedIOBase:
    """A file as it is or, by its suffix, unpacked.

    Raises:
        InputError: while it is read, if it unpacks to more than it may.
    """
    if path.suffix == ".gz":
        return _bounded(gzip.open(path), path)
    if path.suffix == ".xz":
        return _bounded(lzma.open(path), path)
    if path.suffix == ".zst":
        # Unlike the zstandard package, this reads all frames and notices a truncated one.
        import pyarrow

        return _bounded(io.BufferedReader(pyarrow.input_stream(path, compression="zstd")), path)
    return path.open("rb")


def _bounded(stream: io.BufferedIOBase, path: Path) -> io.BufferedIOBase:
    return io.BufferedReader(_Bounded(stream, Allowance(path)), buffer_size=1 << 17)


class _Bounded(io.RawIOBase):
    def __init__(self, stream: io.BufferedIOBase, allowance: Allowance) -> None:
        self._stream = stream
        self._allowance = allowance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        n_bytes = self._stream.readinto(cast(bytearray, buffer))
        self._allowance.take(n_bytes)
        return n_bytes

    def close(self) -> None:
        self._stream.close()
        super().close()
