"""The one kind of error that a user can cause and mend, and what the names in a user's input stand for."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

DOTTED = "my_package.module:name"
"""The form of a name for something that stands in a module of the user's own."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line that names the value, what is allowed and, where there is one, the nearest
    valid choice. The command line prints it without a traceback and exits with code 2.
    """


def unknown(kind: str, value: object, allowed: Iterable[object]) -> InputError:
    """The error for a value that is none of `allowed`, with the nearest valid choice."""
    choices = [str(choice) for choice in allowed]
    near = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return InputError(f"{kind} {str(value)!r} is unknown; choose from {', '.join(choices)}{hint}")


def named(kind: str, name: str) -> Any:
    """What a name in the form of `DOTTED` stands for, in a module that is imported from the working folder too.

    Args:
        kind: the option that has the name, for messages.
        name: the name.

    Raises:
        InputError: it has another form, there is no such module or no such name in it, or importing it fails.
    """
    module_name, colon, attribute = name.partition(":")
    if not all([module_name, colon, attribute]) or module_name.startswith("."):
        raise InputError(f"{kind} {name!r} names nothing in a module; write {DOTTED}")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last, so that nothing there hides what is installed
    try:
        module = import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise InputError(
                f"{kind} {name!r}: there is no module {error.name!r}; "
                "it has to be installed, on PYTHONPATH or in the working folder"
            ) from None
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{kind} {name!r}: importing {module_name} raises {reason}") from error
    if not hasattr(module, attribute):
        raise unknown(f"{kind}: name in {module_name}", attribute, (each for each in vars(module) if each[0] != "_"))
    return getattr(module, attribute)
