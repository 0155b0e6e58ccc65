"""How the files of a run prove themselves: by digests, which its record or a JSON file beside them has.

A file that a digest was found to hold for is remembered by its size, time and inode, and not read again for it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sla_ablate.errors import InputError
from sla_ablate.files import digest_of, opened, read

AGAIN = "move the folder away to have the run again"
"""Advice that loses nothing."""


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of files in a folder, by name."""
    return {name: digest(folder, name) for name in names}


def digest(folder: Path, name: str) -> str:
    """The SHA-256 of a file of `files.opened`, read only if it is another than when it was read before."""
    with opened(folder, name) as file:
        status = os.fstat(file.fileno())
    return _digest(folder, name, (status.st_size, status.st_mtime_ns, status.st_ino))


@cache
def _digest(folder: Path, name: str, stamp: tuple[int, ...]) -> str:
    with opened(folder, name) as file:
        return digest_of(file)


DIGEST_BYTES = 32
"""How long the digest is that a checkpoint ends with, of all that comes before it."""


def check_end(folder: Path, name: str) -> None:
    """Hold a file against the digest that it ends with.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is not whole, or was changed, or is no file.
    """
    with opened(folder, name) as file:
        size = os.fstat(file.fileno()).st_size - DIGEST_BYTES
        if size < 0 or bytes.fromhex(digest_of(file, size)) != file.read():
            raise InputError(f"{folder / name} is not whole, or was changed since it was written")


def check(folder: Path, expected: Mapping[str, str]) -> None:
    """Hold files in a folder against their digests.

    Raises:
        FileNotFoundError: there is not one of them.
        InputError: one was changed since; names it.
    """
    for name, value in expected.items():
        if digest(folder, name) != value:
            raise changed(folder / name)


def read_as_recorded(run: Path, name: str, most: int, record: Mapping[str, Any]) -> bytes:
    """The contents of a file of a run's, held against its digest if the record has one.

    Args:
        run: its folder.
        name: of the file.
        most: bytes that it may have.
        record: of the run.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is no file, too long, or was changed since the run ended.
    """
    contents = read(run, name, most)
    expected = record.get("digests", {}).get(name)
    if expected is not None and hashlib.sha256(contents).hexdigest() != expected:
        raise changed(run / name)
    return contents


def changed(path: Path) -> InputError:
    """The error for a file whose digest is not the one that was kept."""
    return InputError(f"{path} was changed since the run wrote it; restore it, or {AGAIN}")
