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
    kind = type(shape)
    if kind is dict:
        if type(value) is not dict:
            return " is no mapping"
        for key, inner in shape.items():
            if key not in value:
                return f" has no {key!r}"
            if fault := _fault(value[key], inner):
                return f".{key}{fault}"
        return ""
    if kind is Each:
        if type(value) is not list:
            return " is no list"
        if len(value) > shape.most:
            return f" has more than {shape.most} entries"
        of = shape.of
        if type(of) is range and {*map(type, value)} == {int} and min(value) in of and max(value) in of:
            return ""  # for which the way below takes five times as long
        for n, each in enumerate(value):
            if fault := _fault(each, of):
                return f"[{n}]{fault}"
        return ""
    if kind is OrNone:
        return "" if value is None else _fault(value, shape.of)
    if kind is range:
        fits = type(value) is int and value in shape
    elif kind is tuple:
        fits = value in shape
    elif kind is re.Pattern:
        fits = type(value) is str and shape.fullmatch(value) is not None
    elif shape is float:
        fits = type(value) is float or (type(value) is int and abs(value) <= _LARGEST)
    else:
        fits = type(value) is shape
    return "" if fits else f" is not possible: {str(value)[:40]!r}"
