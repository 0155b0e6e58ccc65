"""What JSON has to look like, said once for each file: types, ranges and what has to be there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

Shape = Any
"""A type, a range of whole numbers, a pattern of text, a tuple of choices, or a dict, `Each` or `OrNone` of these."""
_LARGEST = 10**18
"""What sums of whole numbers stay far from overflowing with."""


@dataclass(frozen=True)
class Each:
    """A list of values of one shape."""

    of: Shape
    most: int = 10**8
    """How many there may be."""


@dataclass(frozen=True)
class OrNone:
    """A value of a shape, or null."""

    of: Shape


def check(value: Any, shape: Shape) -> None:
    """Hold a value against a shape.

    Args:
        value: of JSON.
        shape: a type (float takes whole numbers too), a range of whole numbers, a compiled pattern that a text
            matches, a tuple of choices, an `Each`, an `OrNone`, or a dict of the keys that have to be there; others
            may be.

    Raises:
        ValueError: it has another; names the first place in few words.
    """
    if fault := _fault(value, shape):
        raise ValueError(fault)


def _fault(value: Any, shape: Shape) -> str:
    """What is wrong, beginning with where; empty if nothing is."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return " is no mapping"
        for key, inner in shape.items():
            if key not in value:
                return f" has no {key!r}"
            if fault := _fault(value[key], inner):
                return f".{key}{fault}"
        return ""
    if isinstance(shape, Each):
        if not isinstance(value, list) or len(value) > shape.most:
            return " is no list" if not isinstance(value, list) else f" has more than {shape.most} entries"
        return next((f"[{n}]{fault}" for n, each in enumerate(value) if (fault := _fault(each, shape.of))), "")
    if isinstance(shape, OrNone):
        return "" if value is None else _fault(value, shape.of)
    return "" if _is(value, shape) else f" is not possible: {str(value)[:40]!r}"


def _is(value: Any, shape: Shape) -> bool:
    if isinstance(shape, range):
        return type(value) is int and value in shape
    if isinstance(shape, re.Pattern):
        return isinstance(value, str) and shape.fullmatch(value) is not None
    if isinstance(shape, tuple):
        return value in shape
    if shape is float:
        return type(value) is float or (type(value) is int and abs(value) <= _LARGEST)
    return type(value) is shape
