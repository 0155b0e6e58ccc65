"""What a shell offers for the word that is being written: options, names, groups, keys and their values."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType

from sla_ablate.files import absolute


def words(command: ModuleType, line: str) -> list[str]:
    """The words that can stand where the last one of a command line is being written.

    Args:
        command: the line's.
        line: what follows its name, up to the cursor.
    """
    *before, begun = line.split(" ")
    offered: list[str] = []
    if begun.startswith("-"):
        offered = _options(command)
    elif hasattr(command, "words"):
        offered = command.words()
    if getattr(command, "TAKES_OVERRIDES", False):
        found = re.search(r"--config-dir[ =](\S+)", " ".join(before))
        folder = absolute(found[1]) if found else None
        offered += _overrides(begun, folder if folder and folder.is_dir() else None)
    return [word for word in offered if word.startswith(begun)]


def _options(command: ModuleType) -> list[str]:
    """The options that a command's own help tells of."""
    with redirect_stdout(told := io.StringIO()):
        try:
            command.run(["--help"])
        except SystemExit:
            pass
    options = re.findall(r"^  (?:-\w+(?: [A-Z]+)?, )?(--[a-z][a-z-]*)", told.getvalue(), re.MULTILINE)
    return sorted({*options, "--help"})


def _overrides(begun: str, config_dir: Path | None) -> Iterator[str]:
    """Groups and keys, or the values of the one that is there already; after a comma one more value."""
    from sla_ablate.config import reference

    groups, options = reference.groups(config_dir), reference.options()
    key, equals, values = begun.partition("=")
    if not equals:
        yield from (f"{name}=" for name in (*groups, *(option.key for option in options)))
        return
    several = f"{key}={values[: values.rfind(',') + 1]}"
    if key in groups:
        yield from (f"{several}{name}" for name in groups[key])
    for option in options:
        if option.key == key:
            yield from (f"{several}{value}" for value in option.values)
