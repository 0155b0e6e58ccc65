from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sla_ablate import SkipPattern
from sla_ablate.config.schema import ModelConfig, PatternConfig, RunConfig
from sla_ablate.errors import InputError
from sla_ablate.patterns.registry import MECHANISMS


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


def test_rows_of_different_lengths_are_told():
    for make in (SkipPattern.from_tables, lambda keys: SkipPattern(keys, keys)):
        with pytest.raises(InputError, match="key_source: the rows differ in length"):
            make([[0], [0, 1]])


def test_shared_values_need_no_table_of_keys():
    config = RunConfig(
        ModelConfig(n_layer=2, n_head=2), PatternConfig("tables", value_source=[[0, 0], [0, 1]], share="values")
    )
    assert config.skip_pattern() == SkipPattern.from_tables([[0, 0], [1, 1]], [[0, 0], [0, 1]])


def test_tables_are_read_only_and_compare_by_content():
    pattern = SkipPattern.from_tables([[0], [0]])
    with pytest.raises(ValueError, match="read-only"):
        pattern.key_source[0, 0] = 1
    assert pattern == SkipPattern.from_tables(np.array([[0], [0]]))
    assert hash(pattern) == hash(SkipPattern.from_tables([[0], [0]]))
    assert pattern != SkipPattern.from_tables([[0], [0]], [[0], [1]])


def columns(*layers: int, heads: int = 2) -> list[list[int]]:
    """The table in which all heads of a layer read the same layer."""
    return [[layer] * heads for layer in layers]


KEYS_OF_THEIR_OWN = [[layer] * 4 for layer in range(6)]


@pytest.mark.parametrize(
    ("options", "keys", "values"),
    [
        (
            PatternConfig("skip_v1", placement="last", share="values"),
            KEYS_OF_THEIR_OWN,
            [[0, 0, 0, 0], [1, 1, 0, 0], [2, 2, 0, 0], [3, 3, 0, 0], [4, 4, 0, 0], [5, 5, 0, 0]],
        ),
        (
            PatternConfig("first_layer", heads=1, source=2, share="values"),
            KEYS_OF_THEIR_OWN,
            [[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2], [2, 3, 3, 3], [2, 4, 4, 4], [2, 5, 5, 5]],
        ),
        (
            PatternConfig("first_layer", heads=2, layers=2, placement="spread", share="keys"),
            [[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3], [0, 4, 0, 4], [0, 5, 0, 5]],
            KEYS_OF_THEIR_OWN,
        ),
        (PatternConfig("fused_kv_lite"), columns(0, 1, 2, 2, 2, 2, heads=4), columns(0, 1, 2, 0, 0, 0, heads=4)),
        (
            PatternConfig("fused_kv_lite", split=4, share="values"),
            KEYS_OF_THEIR_OWN,
            columns(0, 1, 2, 3, 4, 0, heads=4),
        ),
        (
            PatternConfig("fused_kv_lite", split=1, share="keys"),
            columns(0, 1, 1, 1, 1, 1, heads=4),
            KEYS_OF_THEIR_OWN,
        ),
        (
            PatternConfig(layer_types="0_0_2_2_4_4"),
            columns(0, 0, 2, 2, 4, 4, heads=4),
            columns(0, 0, 2, 2, 4, 4, heads=4),
        ),
        (
            PatternConfig("tables", layer_types="0_1_1_0_4_5", share="values"),
            KEYS_OF_THEIR_OWN,
            columns(0, 1, 1, 0, 4, 5, heads=4),
        ),
    ],
)
def test_keys_and_values_are_these_tables(options, keys, values):
    pattern = RunConfig(pattern=options).skip_pattern()
    assert pattern.key_source.tolist() == keys
    assert pattern.value_source.tolist() == values


@pytest.mark.parametrize(("n_layer", "read"), [(12, 6), (5, 3), (1, 1)])
def test_fused_kv_lite_halves_the_cache(n_layer, read):
    pattern = SkipPattern.fused_kv_lite(n_layer, 2)
    assert pattern.keys_read.sum(0).tolist() == pattern.values_read.sum(0).tolist() == [read, read]


@pytest.mark.parametrize(
    ("pattern", "table"),
    [
        (SkipPattern.first_layer(3, 2), columns(0, 0, 0)),
        (SkipPattern.first_layer(3, 4, heads=2, placement="last"), [[0, 0, 0, 0], [1, 1, 0, 0], [2, 2, 0, 0]]),
        (SkipPattern.cross_layer(5, 2), columns(0, 0, 2, 2, 4)),
        (SkipPattern.cross_layer(7, 2, group_size=3), columns(0, 0, 0, 3, 3, 3, 6)),
        (SkipPattern.cross_layer(3, 2, group_size=1), columns(0, 1, 2)),
        (SkipPattern.yoco(6, 2), columns(0, 1, 2, 3, 3, 3)),
        (SkipPattern.yoco(5, 2), columns(0, 1, 2, 2, 2)),
        (SkipPattern.yoco(4, 2, split=0), columns(0, 0, 0, 0)),
        (SkipPattern.condensed(6, 2, "pizza", 3), columns(0, 1, 2, 2, 2, 2)),
        (SkipPattern.condensed(9, 2, "sandwich", 5), columns(0, 1, 2, 2, 2, 2, 2, 7, 8)),
        (SkipPattern.condensed(9, 2, "sandwich", 4), columns(0, 1, 2, 2, 2, 2, 2, 2, 8)),
        (SkipPattern.condensed(9, 2, "lasagna", 3), columns(0, 0, 0, 3, 3, 3, 6, 6, 6)),
        (SkipPattern.condensed(5, 2, "lasagna", 2), columns(0, 0, 2, 2, 2)),
        (SkipPattern.condensed(6, 2), columns(0, 1, 2, 2, 2, 2)),
        (SkipPattern.condensed(1, 2), columns(0)),
        (SkipPattern.skip_layer(3, 4, 1, 2, placement="last"), [[0, 0, 0, 0], [1, 1, 0, 0], [2, 2, 1, 1]]),
        (SkipPattern.skip_layer(3, 4, 1, 2, placement="spread"), [[0, 0, 0, 0], [0, 1, 0, 1], [1, 2, 1, 2]]),
        (SkipPattern.window(4, 4, 3, 3, "last"), [[0, 0, 0, 0], [1, 0, 0, 0], [2, 1, 0, 1], [3, 2, 1, 0]]),
        # The stream of numpy's PCG64: another table under the same seed would be another experiment.
        (SkipPattern.random(5, 4, heads=3), [[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 2], [0, 0, 0, 3], [0, 3, 2, 4]]),
    ],
)
def test_the_family_is_these_tables(pattern, table):
    assert pattern.key_source.tolist() == table
    assert pattern.value_source.tolist() == table


def test_condensed_contains_its_relatives():
    assert SkipPattern.condensed(6, 2, "lasagna", 3) == SkipPattern.cross_layer(6, 2, 2)
    assert SkipPattern.condensed(6, 2, "pizza", 4) == SkipPattern.yoco(6, 2)
    for partition in ("pizza", "sandwich", "lasagna"):
        assert SkipPattern.condensed(6, 2, partition, 6).is_baseline
        assert SkipPattern.condensed(6, 2, partition, 1) == SkipPattern.first_layer(6, 2)


def test_spread_heads_are_even():
    skips = SkipPattern.first_layer(2, 12, heads=9, placement="spread").key_source[1] == 0
    assert np.flatnonzero(~skips).tolist() == [3, 7, 11]


def test_random_is_a_uniform_function_of_its_seed():
    pattern = SkipPattern.random(8, 400, heads=400, seed=7)
    assert pattern == SkipPattern.random(8, 400, heads=400, seed=7)
    assert pattern != SkipPattern.random(8, 400, heads=400, seed=8)
    for layer in range(1, 8):
        counts = np.bincount(pattern.key_source[layer], minlength=layer)
        assert len(counts) == layer  # strictly below
        # Binomial counts lie within five standard deviations of their mean but once in 10^6.
        assert (abs(counts - 400 / layer) < 5 * np.sqrt(400 / layer)).all()
    fewer = SkipPattern.random(8, 400, heads=100, seed=7)
    assert (fewer.key_source[:, :100] == pattern.key_source[:, :100]).all()


@st.composite
def family(draw):
    """A member's name, the model's shape, and possible options."""
    n_layer, n_head = draw(st.integers(2, 9)), draw(st.integers(1, 6))
    distance = draw(st.integers(1, n_layer - 1))
    options = PatternConfig(
        name=draw(st.sampled_from(sorted(set(MECHANISMS) - {"tables", "layer_types"}))),
        distance=distance,
        heads=draw(st.integers(1, n_head)),
        source=draw(st.integers(0, distance - 1)),
        layers=draw(st.none() | st.integers(1, n_layer - distance)),
        placement=draw(st.sampled_from(["first", "last", "spread"])),
        group_size=draw(st.integers(1, n_layer)),
        split=draw(st.none() | st.integers(0, n_layer - 1)),
        partition=draw(st.sampled_from(["pizza", "sandwich", "lasagna"])),
        kv_layers=draw(st.none() | st.integers(1, n_layer)),
        seed=draw(st.integers(0, 2**32)),
        share=draw(st.sampled_from(["both", "keys", "values"])),
    )
    return RunConfig(ModelConfig(n_layer, n_head, n_head), options)


@given(family())
def test_every_member_reads_only_layers_at_or_below(config):
    pattern, p = config.skip_pattern(), config.pattern
    own = np.arange(config.model.n_layer)[:, None]
    assert pattern.key_source.shape == (config.model.n_layer, config.model.n_head)
    for table in (pattern.key_source, pattern.value_source):
        assert ((table >= 0) & (table <= own)).all()
        if p.name in ("sla", "sla_count", "window", "first_layer", "skip_v1", "random"):
            assert ((table < own).sum(axis=1) <= p.heads).all()
        if p.name in ("sla", "sla_count", "window"):
            assert (own - table <= p.distance).all()
    if p.name == "condensed" and p.kv_layers and p.share == "both":
        assert pattern.keys_read.any(axis=1).sum() == p.kv_layers


@given(family())
def test_share_moves_only_what_it_names(config):
    config.pattern.share = "both"
    both = config.skip_pattern()
    own = SkipPattern.baseline(both.n_layer, both.n_head).key_source
    config.pattern.share = "keys"
    assert config.skip_pattern() == SkipPattern.from_tables(both.key_source, own)
    config.pattern.share = "values"
    assert config.skip_pattern() == SkipPattern.from_tables(own, both.value_source)


@pytest.mark.parametrize(
    ("options", "label", "slug"),
    [
        ({"name": "baseline", "distance": 3, "share": "keys"}, "baseline", "baseline"),
        ({"name": "sla"}, "SLA, distance 4, 3 of 4 heads", "sla-d4-h3"),
        (
            {"name": "sla", "distance": 1, "heads": 2, "layers": 2},
            "SLA, distance 1, 2 of 4 heads, last 2 layers",
            "sla-d1-h2-l2",
        ),
        (
            {"name": "sla", "distance": 1, "placement": "last", "share": "keys"},
            "SLA, distance 1, 3 of 4 heads, last heads, keys only",
            "sla-d1-h3-last-keys",
        ),
        ({"name": "window", "distance": 2}, "SLA, window 2, 3 of 4 heads", "window-d2-h3"),
        (
            {"name": "first_layer", "share": "values"},
            "first layer, 4 of 4 heads, values only",
            "first-h4-values",
        ),
        (
            {"name": "skip_v1", "source": 1, "layers": 3, "placement": "last"},
            "first layer, 2 of 4 heads, layer 1 in the place of 0, last 3 layers, last heads",
            "first-h2-from1-l3-last",
        ),
        ({"name": "fused_kv_lite"}, "FusedKV-Lite, split at layer 2", "fused-kv-lite-l2"),
        ({"layer_types": "0_0_2_2_4_4"}, "layers 0_0_2_2_4_4", "layers-0_0_2_2_4_4"),
        ({"name": "cla"}, "CLA, groups of 2", "cla-g2"),
        ({"name": "yoco"}, "YOCO, split at layer 3", "yoco-l3"),
        ({"name": "condensed", "partition": "sandwich"}, "sandwich, 3 KV layers", "sandwich-k3"),
        (
            {"name": "random", "seed": 5, "placement": "spread"},
            "random, 3 of 4 heads, pattern seed 5, spread heads",
            "random-h3-p5-spread",
        ),
    ],
)
def test_names_of_patterns(options, label, slug):
    config = RunConfig(pattern=PatternConfig(**options))
    assert (config.pattern_label(), config.pattern_slug()) == (label, slug)


def test_different_tables_have_different_names():
    def names(key_source, share="both"):
        config = RunConfig(pattern=PatternConfig(name="tables", key_source=key_source, share=share))
        return config.pattern_label(), config.pattern_slug()

    own = SkipPattern.baseline(6, 4).key_source.tolist()
    first = [[0] * 4] * 6
    assert len({names(own), names(first), names(first, "keys"), names(first, "values")}) == 4
    assert all(name.startswith("tables") for name in names(first))


@pytest.mark.parametrize("n_layer", [1, 2, 5, 6])
def test_null_means_the_constructors_default(n_layer):
    def member(name):
        return RunConfig(ModelConfig(n_layer=n_layer), PatternConfig(name)).skip_pattern()

    assert member("yoco") == SkipPattern.yoco(n_layer, 4)
    assert member("condensed") == SkipPattern.condensed(n_layer, 4)
    assert member("fused_kv_lite") == SkipPattern.fused_kv_lite(n_layer, 4)
    assert member("skip_v1") == SkipPattern.first_layer(n_layer, 4, heads=2)
    assert member("first_layer") == SkipPattern.first_layer(n_layer, 4)


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
        (lambda: SkipPattern.skip_layer(1, 4, distance=1, heads=2), "distance=1 is not possible with 1 layers$"),
        (lambda: SkipPattern.first_layer(6, 4, heads=0), "heads=0.*1 to 4, nearest 1"),
        (lambda: SkipPattern.first_layer(6, 4, source=5), "source=5.*6 layers; choose 0 to 4, nearest 4"),
        (
            lambda: SkipPattern.first_layer(6, 4, source=2, layers=4),
            "layers=4.*above layer 2; choose 1 to 3, nearest 3",
        ),
        (lambda: SkipPattern.fused_kv_lite(6, 4, 6), "split=6.*6 layers; choose 0 to 5, nearest 5"),
        (
            lambda: RunConfig(pattern=PatternConfig("layer_types")).skip_pattern(),
            "needs 'layer_types'; .*layer_types=…",
        ),
        *(
            (lambda layer_types=layer_types: SkipPattern.from_layer_types(4, 2, layer_types), message)
            for layer_types, message in {
                "0_0_2": "layer_types=0_0_2 is for 3 layers, the model has 4; .* such as 0_0_2_2$",
                "0_0_2s_2": "layer_types=0_0_2s_2 is no list of layers.* such as 0_0_2_2$",
                "": "layer_types= is no list of layers",
                "0_-1_0_0": "layer_types=0_-1_0_0 is no list of layers",
                "0_3_3_3": "layer_types=0_3_3_3: layer 1 reads layer 3; a layer can read layers 0 to 1",
            }.items()
        ),
        (lambda: SkipPattern.first_layer(6, 4, 2, placement="lst"), "placement 'lst'.*first, last, spread; .*'last'"),
        (lambda: SkipPattern.first_layer(6, 4, share="value"), "share 'value'.*both, keys, values; .*'values'"),
        (lambda: SkipPattern.cross_layer(6, 4, group_size=7), "group_size=7.*6 layers; choose 1 to 6, nearest 6"),
        (lambda: SkipPattern.yoco(6, 4, split=6), "split=6.*6 layers; choose 0 to 5, nearest 5"),
        (lambda: SkipPattern.condensed(6, 4, kv_layers=0), "kv_layers=0.*6 layers; choose 1 to 6, nearest 1"),
        (lambda: SkipPattern.condensed(6, 4, "piza"), "partition 'piza'.*pizza, sandwich, lasagna; .*'pizza'"),
        (lambda: SkipPattern.random(6, 4, 2, seed=-1), "seed -1 .*0 or more"),
        (lambda: RunConfig(pattern=PatternConfig("yocco")).skip_pattern(), "pattern.name 'yocco'.*'yoco'"),
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


@pytest.mark.parametrize(("n_layer", "n_head"), [(2, 1), (2, 3), (3, 1), (4, 2), (5, 5)])
def test_every_default_is_possible(n_layer, n_head):
    for name in MECHANISMS.keys() - {"tables", "layer_types"}:  # which have none
        config = RunConfig(ModelConfig(n_layer=n_layer, n_head=n_head), PatternConfig(name))
        assert config.skip_pattern().key_source.shape == (n_layer, n_head)
        assert config.pattern_slug()
    for constructor in (SkipPattern.skip_layer, SkipPattern.window, SkipPattern.random):
        assert constructor(n_layer, n_head).key_source.shape == (n_layer, n_head)
