"""How files prove themselves: JSON carries a digest of the rest of it, and digests of the files that it speaks of.

A file that a digest was found to hold for is remembered by its size, time and inode, and not read again for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sla_ablate.errors import InputError
from sla_ablate.files import digest_of, opened
from sla_ablate.text.words import as_json

AGAIN = "move the folder away to have the run again"
"""Advice that loses nothing."""

_SEAL = re.compile(rb'\{\n "sha256": "([0-9a-f]{64})",')


def seal(value: Mapping[str, Any]) -> bytes:
    """A JSON object as text that begins with the SHA-256 of the text without it."""
    text = (as_json(dict(value), indent=1) + "\n").encode()
    return f'{{\n "sha256": "{hashlib.sha256(text).hexdigest()}",'.encode() + text[1:]


def unseal(text: bytes) -> Any:
    """The value of JSON, of an object without its digest; one that has none, as earlier versions wrote it, is taken.

    Raises:
        ValueError: it is no JSON, or was changed since it was sealed.
    """
    try:
        value = json.loads(text)
        if b"\\ud" in text.lower():  # perhaps half a surrogate pair, which no table can hold
            value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if isinstance(value, dict) and value.pop("sha256", None) is not None:
        found = _SEAL.match(text)
        if not found or hashlib.sha256(b"{" + text[found.end() :]).hexdigest() != found[1].decode():
            raise ValueError("it was changed since it was written")
    return value


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


def changed(path: Path) -> InputError:
    """The error for a file whose digest is not the one that was kept."""
    return InputError(f"{path} was changed since the run wrote it; restore it, or {AGAIN}")
