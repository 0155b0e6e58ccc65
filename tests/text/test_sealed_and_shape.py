"""JSON that proves itself, and what it has to look like."""

from __future__ import annotations

import json
import re

import pytest

from sla_ablate.text.sealed import seal, unseal
from sla_ablate.text.shape import Each, OrNone, check

VALUE = {"a": [1, 2.5, None], "ä": {"b": "c"}}


def test_no_flipped_bit_gives_another_value():
    text = seal(VALUE)
    assert json.loads(text).keys() == {"sha256", *VALUE}
    assert unseal(text) == VALUE
    believed = 0
    for place in range(len(text)):
        for bit in range(8):
            flipped = bytearray(text)
            flipped[place] ^= 1 << bit
            try:
                value = unseal(bytes(flipped))
            except ValueError:
                continue
            believed += 1
            assert {name: value[name] for name in VALUE} == VALUE  # the digest's own name was hit
    assert believed < len("sha256") * 8


def test_what_was_written_without_a_digest_is_taken():
    assert unseal(b'{"a": 1}') == {"a": 1}
    assert unseal(b"[]") == []
    for text in (b"{", b"[" * 100_000, b'{"sha256": "0"}', b'{"sha256": "0", "a": 1}'):
        with pytest.raises(ValueError):
            unseal(text)


@pytest.mark.parametrize(
    ("value", "shape", "fault"),
    [
        ([], {"a": int}, "is no mapping"),
        ({}, {"a": int}, "has no 'a'"),
        ({"a": {"b": True}}, {"a": {"b": range(9)}}, "a.b is not possible: 'True'"),
        ({"a": 9}, {"a": range(9)}, "a is not possible: '9'"),
        ({"a": 1.0}, {"a": range(9)}, "a is not possible"),
        ({"a": "x/y"}, {"a": re.compile("[a-z]+")}, "a is not possible"),
        ({"a": [1, "2"]}, {"a": Each(range(9))}, r"a\[1\] is not possible"),
        ({"a": [1, 2]}, {"a": Each(range(9), 1)}, "a has more than 1 entries"),
        ({"a": [[1], [-1]]}, {"a": Each(Each(range(9)))}, r"a\[1\]\[0\] is not possible"),
        ({"a": 10**400}, {"a": float}, "a is not possible"),
        ({"a": 0}, {"a": OrNone(str)}, "a is not possible"),
        ({"a": "no"}, {"a": ("yes",)}, "a is not possible"),
    ],
)
def test_what_is_of_another_shape_is_named(value, shape, fault):
    with pytest.raises(ValueError, match=fault):
        check(value, shape)


def test_what_is_of_the_shape_passes_with_more_beside_it():
    shape = {"a": float, "b": OrNone(Each(str)), "c": Each(range(3)), "d": Each(float)}
    for b in (None, [], ["x"]):
        check({"a": 1, "b": b, "c": [0, 2], "d": [1, float("nan")], "e": ...}, shape)
