"""The one kind of error that a user can cause and mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
