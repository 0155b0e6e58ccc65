"""Files that are either the old one or the new one, whatever happens meanwhile, and folders that one process holds.

Also what keeps a command in the folder that it was given: there may be links in one that comes from somebody else.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sla_ablate.errors import InputError
from sla_ablate.text.telling import tell_aside, waiting

_UNFINISHED = ".tmp"
_TEMPORARY = re.compile(rf"\..+\.[a-z0-9_]{{8}}{re.escape(_UNFINISHED)}")
"""The names that `tempfile` makes for `replacing`."""


def absolute(text: str) -> Path:
    """The path that a user wrote, from the root on: `~` is home, and what is relative begins in the working folder.

    Raises:
        InputError: it begins with the home of a user that does not exist, or is not UTF-8.
    """
    try:
        path = (Path(text).expanduser() if text.startswith("~") else Path(text)).absolute()
        str(path).encode()
    except RuntimeError:
        raise InputError(f"{text!r} names the home of nobody") from None
    except UnicodeEncodeError:
        raise InputError(
            f"{str(path)!r} is not UTF-8, or not in this locale; rename it or set LC_ALL=C.UTF-8"
        ) from None
    return path


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to that becomes `path` at the end of the block: fsync, rename, fsync of the folder.

    The folder has to exist: one that vanishes while a run writes to it must not come back half empty.

    Raises:
        OSError: with `path` as its filename; the file is the one from before.
    """
    with naming(path):
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_UNFINISHED)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def replace_file(path: Path, data: bytes) -> None:
    """Replace `path` with `data`, as `replacing` does, in a folder that exists."""
    with replacing(path) as file:
        file.write(data)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` with `data`, and make its folder if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, data)


def without_dots(path: Path) -> Path:
    """A path from the root, without `.` and `..`, whose name and parents are therefore those of folders.

    Links stay: what a user calls something is not replaced by where it lies.
    """
    return Path(os.path.abspath(path))  # noqa: PTH100


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have every OSError of the block name `path`: one of a write or a flush names no file by itself."""
    try:
        yield
    except OSError as error:  # of a library's own the message is all
        raise OSError(error.errno or 0, error.strerror or str(error), str(path)) from error


def remove_unfinished(folder: Path, below: bool = True) -> None:
    """Remove what processes that were killed while writing left in a folder and below it; none may be writing now.

    Args:
        folder: where.
        below: False: in the folder itself only, as where there may be others' below it.
    """
    for path in (folder.rglob if below else folder.glob)(f".*{_UNFINISHED}"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def inside(folder: Path, name: str) -> Path:
    """The path of a name in a folder.

    Raises:
        InputError: a link on the way to it leads out of the folder.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{path} leads out of {folder}, and such links are not followed; put there what it leads to")
    return path


def check_inside(folder: Path | str) -> None:
    """Make sure of all that lies directly in a folder, if there is one.

    Raises:
        InputError: something is neither a file nor a folder, or a link that leads out of the folder.
    """
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_symlink():
            inside(Path(folder), entry.name)
        elif not (entry.is_file() or entry.is_dir()):
            raise InputError(f"{entry.path} is neither a file nor a folder; move it away")


def check_free(folder: Path, ours: Callable[[str], object], force: bool) -> None:
    """Make sure that a command may write into a folder that the user named.

    Args:
        folder: need not exist.
        ours: tells of a name whether the command itself writes files of that name, which it may replace.
        force: the user said `--force`, so that it may hold anything.

    Raises:
        InputError: it holds something else, hidden files apart.
    """
    if force or not folder.is_dir():
        return
    others = sorted(name for path in folder.iterdir() if not ((name := path.name).startswith(".") or ours(name)))
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise InputError(f"{folder} holds something else: {others[0]}{more}; choose another folder or add --force")


@contextmanager
def opened(folder: Path, name: str) -> Iterator[IO[bytes]]:
    """A file in a folder, or in one below it, to be read; no link below `folder` is followed, and no pipe waited for.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is a link, or no file.
    """
    with os.fdopen(_descriptor(folder, name), "rb") as file:
        yield file


def read(folder: Path, name: str, most: int) -> bytes:
    """The contents of a file of `opened`.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is a link, or no file, or has more than `most` bytes.
    """
    descriptor = _descriptor(folder, name)
    try:
        contents = os.read(descriptor, min(most, os.fstat(descriptor).st_size) + 1)
        while len(contents) <= most and (more := os.read(descriptor, 1 << 20)):
            contents += more  # of a file that grows, or is longer than one read gives
    finally:
        os.close(descriptor)
    if len(contents) > most:
        raise InputError(f"{folder / name} has more than {most / 1e6:,.0f} MB, the most that it can need")
    return contents


def _descriptor(folder: Path, name: str) -> int:
    path = f"{folder}/{name}"
    *between, last = name.split("/")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    for step in between:
        descriptor = _below(descriptor, path, step, os.O_DIRECTORY)
    descriptor = _below(descriptor, path, last, os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError(f"{path} is no file")
    return descriptor


def _below(parent: int, path: str, name: str, flags: int) -> int:
    """The descriptor of a name in an open folder, which is closed."""
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | flags, dir_fd=parent)
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
    except OSError as error:
        if error.errno == errno.ELOOP or stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise InputError(f"{path} is a link, or lies behind one, and links are not followed") from None
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(parent)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's contents, which need not fit into memory."""
    with path.open("rb") as file:
        return digest_of(file)


def digest_of(file: IO[bytes], most: int | None = None) -> str:
    """The SHA-256 of what is left in an open file, or of its next `most` bytes."""
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20 if most is None else min(1 << 20, most)):
        digest.update(chunk)
        most = None if most is None else most - len(chunk)
    return digest.hexdigest()


@contextmanager
def claim(folder: Path, patience: float = 1) -> Iterator[int | None]:
    """Hold a folder that exists, such as a run's, so that no other process works on the same.

    Yields the descriptor of the lock, to be inherited by the process that does the work (the folder is
    held until both are gone), or None if another living process holds the folder for so many seconds:
    one that only looks (`is_held`) holds it for an instant.
    """
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        deadline = time.monotonic() + patience
        while not (held := _lock(descriptor)) and time.monotonic() < deadline:
            time.sleep(0.02)
        yield descriptor if held else None
    finally:
        os.close(descriptor)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process is in such a block of the same folder; what a killed one left there is removed."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with waiting(f"waiting for another process that writes to {folder}", tell_aside):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        remove_unfinished(folder, below=False)
        yield
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Tell whether a living process holds a folder, for which nobody needs the right to write there."""
    try:
        descriptor = os.open(folder / ".lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
