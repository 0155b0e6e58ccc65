from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sla_ablate import SkipPattern
from sla_ablate.errors import InputError


def test_baseline_reads_its_own_layer():
    pattern = SkipPattern.baseline(3, 2)
    assert pattern.key_source.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert pattern.is_baseline


def test_the_papers_setting_gives_skip_heads_to_the_last_three_layers():
    pattern = SkipPattern.skip_layer(12, 12, distance=9, heads=9)
    assert (pattern.key_source[:9] == np.arange(9)[:, None]).all()
    assert pattern.key_source[9:].tolist() == [[layer - 9] * 9 + [layer] * 3 for layer in (9, 10, 11)]
    assert pattern == SkipPattern.skip_layer(12, 12)
    assert not pattern.is_baseline


def test_layers_limits_skip_heads_to_the_last_layers():
    pattern = SkipPattern.skip_layer(6, 2, distance=1, heads=1, layers=2)
    assert pattern.key_source.tolist() == [[0, 0], [1, 1], [2, 2], [3, 3], [3, 4], [4, 5]]


def test_window_spreads_skip_heads_over_the_layers_before():
    pattern = SkipPattern.window(4, 4, distance=2, heads=3)
    assert pattern.key_source.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [1, 0, 1, 2], [2, 1, 2, 3]]


def test_values_come_from_the_keys_layer_unless_given():
    keys = [[0, 0], [0, 1]]
    assert SkipPattern.from_tables(keys).value_source.tolist() == keys
    assert SkipPattern.from_tables(keys, [[0, 0], [1, 0]]).value_source.tolist() == [[0, 0], [1, 0]]


def test_tables_are_read_only_and_compare_by_content():
    pattern = SkipPattern.from_tables([[0], [0]])
    with pytest.raises(ValueError, match="read-only"):
        pattern.key_source[0, 0] = 1
    assert pattern == SkipPattern.from_tables(np.array([[0], [0]]))
    assert hash(pattern) == hash(SkipPattern.from_tables([[0], [0]]))
    assert pattern != SkipPattern.from_tables([[0], [0]], [[0], [1]])


@given(st.integers(2, 8), st.integers(1, 6), st.data())
def test_every_constructor_reads_only_layers_at_or_below(n_layer, n_head, data):
    distance = data.draw(st.integers(1, n_layer - 1))
    heads = data.draw(st.integers(1, n_head))
    own = np.arange(n_layer)[:, None]
    for pattern in (
        SkipPattern.skip_layer(n_layer, n_head, distance, heads),
        SkipPattern.window(n_layer, n_head, distance, heads),
    ):
        assert ((pattern.key_source >= 0) & (pattern.key_source <= own)).all()
        assert (own - pattern.key_source <= distance).all()
        assert (pattern.key_source[:, heads:] == own).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: SkipPattern.skip_layer(6, 4, distance=6, heads=2),
            "distance=6.*6 layers.*1 to 5.*nearest 5",
        ),
        (lambda: SkipPattern.skip_layer(6, 4, distance=0, heads=2), "distance=0.*nearest 1"),
        (lambda: SkipPattern.window(6, 4, distance=2, heads=5), "heads=5.*4 heads.*nearest 4"),
        (lambda: SkipPattern.skip_layer(6, 4, distance=4, heads=2, layers=3), "layers=3.*1 to 2"),
        (lambda: SkipPattern.from_tables([[0, 0], [0, 2]]), "layer 1, head 1 reads layer 2.*0 to 1"),
        (
            lambda: SkipPattern.from_tables([[0], [1]], [[0], [-1]]),
            "value_source: layer 1, head 0 reads layer -1",
        ),
        (lambda: SkipPattern.from_tables([[0, 0], [0]]), "rows differ in length"),
        (lambda: SkipPattern.from_tables([[0.0]]), "whole numbers"),
        (lambda: SkipPattern.from_tables([[0, 0]], [[0]]), r"\(1, 2\).*\(1, 1\)"),
    ],
)
def test_impossible_patterns_are_refused_in_one_line(make, message):
    with pytest.raises(InputError, match=message) as refused:
        make()
    assert "\n" not in str(refused.value)
