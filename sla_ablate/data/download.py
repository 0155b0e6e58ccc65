"""A file from its public home: bounded in size, its progress told, gone on with after an interruption."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from sla_ablate.data.progress import Progress
from sla_ablate.errors import InputError

_CHUNK = 1 << 18
_PATIENCE = 60.0
"""Seconds without a byte after which a server counts as gone."""


def download(url: str, path: Path, most_bytes: int, otherwise: str, log: Callable[[str], object]) -> None:
    """Fetch a file to `path`; what an interrupted attempt left beside it in `<path>.part` is not fetched again.

    Args:
        url: its address.
        path: where it goes; the folder exists.
        most_bytes: a longer one is refused.
        otherwise: what to do instead, for messages.
        log: is told how far it has come.

    Raises:
        InputError: the server is not there, has no such file or broke off, or the file is too long.
    """
    part = path.with_name(f"{path.name}.part")
    present = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={present}-"} if present else {})
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE) as response:
            if response.status != http.HTTPStatus.PARTIAL_CONTENT:
                present = 0  # a server that begins again
            _receive(response, part, present, most_bytes, log)
    except urllib.error.HTTPError as error:
        # Where there is nothing after the last byte, all of it is there already.
        if not present or error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise InputError(f"{url} cannot be fetched: {error}; {otherwise}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"{url} cannot be fetched: {reason}; try again to go on from there, or {otherwise}") from error
    part.replace(path)


def _receive(
    response: http.client.HTTPResponse, part: Path, present: int, most_bytes: int, log: Callable[[str], object]
) -> None:
    if present:
        log(f"goes on after {present / 1e6:,.1f} MB")
    length = response.length  # None where the server does not know it
    progress = Progress(f"downloading {length / 1e6:,.1f} MB" if length else "downloading", log)
    with part.open("ab" if present else "wb") as file:
        while chunk := response.read(_CHUNK):
            present += len(chunk)
            if present > most_bytes:
                part.unlink()
                raise InputError(f"{response.url} is longer than the {most_bytes:,} bytes that it may have")
            file.write(chunk)
            progress.add(len(chunk), documents=0)
    progress.report()
    if response.length:  # of a connection that ends early `read` says nothing
        raise http.client.IncompleteRead(b"", response.length)
