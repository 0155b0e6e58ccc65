"""Where a run's result comes from: the command, the code and the time of each of its sittings."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Sequence
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import TypedDict

from sla_ablate.files import sha256

CHECKOUT = Path(__file__).parents[2]
_CODE = ("sla_ablate", "analysis", "conf", "experiments")
"""Folders of the checkout in which a file counts though git does not know it."""
_SECRET = re.compile(
    r"""
    ([\w.-]* (?: pass(?:word|wd|phrase) | secret | credential | (?:api|access|private|auth)[_-]?key
        | (?<![a-z])token(?![a-z]) ) [\w.-]* ["']? \s*[=:]\s*)  # a key, at the beginning or further inside
    (?: "[^"]*" | '[^']*' | [^\s,\]})"']+ )
    | (?<=://) [^\s/@]+ (?=@)  # user and password of a URL
    """,
    re.IGNORECASE | re.VERBOSE,
)


class Sitting(TypedDict):
    """One attempt at a run."""

    began: str
    """UTC, in ISO 8601."""
    ended: str | None
    """None while it lasts, and for ever where it was killed with all that watched it."""
    command: str | None
    """The command line; None where the run was entered from Python."""
    git_commit: str | None
    """The commit of the checkout that the code is from; None where it is installed."""
    git_changes: str | None
    """A digest of what was changed since that commit; None where nothing was."""
    host: str
    """The machine's name in its network."""


def begin(command: str | None) -> Sitting:
    """A sitting that begins now."""
    commit, changes = _code()
    return Sitting(
        began=now(), ended=None, command=command, git_commit=commit, git_changes=changes, host=platform.node()
    )


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def command_line(command: str, arguments: Sequence[str]) -> str:
    """A command line as a shell takes it, with `***` for values of keys that look secret and for passwords in URLs."""
    kept = [_SECRET.sub(lambda found: f"{found[1] or ''}***", argument) for argument in arguments]
    return shlex.join(["sla-ablate", command, *kept])


@cache
def _code() -> tuple[str | None, str | None]:
    """Commit and digest of changes of the checkout as this process found it; a sweep does not ask once a run."""
    if not (CHECKOUT / ".git").exists() or not (commit := _git("rev-parse", "HEAD").strip()):
        return None, None
    changed = _git("diff", "--name-only", "-z", "HEAD")
    new = _git("ls-files", "--others", "--exclude-standard", "-z", "--", *_CODE)
    names = sorted(name for name in (changed + new).split("\0") if name)
    if not names:
        return commit, None
    contents = [sha256(path) if (path := CHECKOUT / name).is_file() else "removed" for name in names]
    return commit, hashlib.sha256(repr([*zip(names, contents, strict=True)]).encode()).hexdigest()[:16]


def _git(*arguments: str) -> str:
    """What git says of the checkout, whoever it belongs to and wherever git's variables point; nothing if it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-c", f"safe.directory={CHECKOUT}", "-C", str(CHECKOUT), *arguments]
    try:
        done = subprocess.run(command, env=environment, capture_output=True)
    except OSError:  # there is no git, or no process for it
        return ""
    return os.fsdecode(done.stdout)
