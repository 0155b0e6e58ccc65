import json
import math

import pytest

from sla_ablate.text.words import as_json


def refuse(name):
    raise ValueError(f"{name} is not JSON")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_null_wherever_it_stands(number):
    value = {"a": 1.5, "b": [1, (number, 2.0)], "c": {"d": number, "e": "NaN", "f": True, "g": None}}
    expected = {"a": 1.5, "b": [1, [None, 2.0]], "c": {"d": None, "e": "NaN", "f": True, "g": None}}
    assert json.loads(as_json(value), parse_constant=refuse) == expected
    assert json.loads(as_json(value, indent=1), parse_constant=refuse) == expected
