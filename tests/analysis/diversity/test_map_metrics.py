"""Metrics of attention maps against the fixtures, their definitions and closed forms."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from direct import map_metrics, maps_of, softmax_maps
from hypothesis import given, settings
from random_models import models, random_tokens

from analysis import measure_heads
from analysis.diversity import maps as attention_maps
from analysis.diversity.induction import Induction, induction_scores
from analysis.diversity.metric import Pass, PassMetric, Setting
from analysis.diversity.metrics import all_metrics
from sla_ablate import GPT, SkipPattern
from sla_ablate.errors import InputError
from sla_ablate.model.capture import capture

METRICS = {metric.__name__: metric for metric in all_metrics()}


def measure(name, A, n_min=1, pattern=None, layer=0):
    """The results of one metric on maps [H, T, T], those of layer 0 if they are by layer."""
    A = np.asarray(A, dtype=np.float64)
    metric = METRICS[name](Setting(pattern or SkipPattern.baseline(1, len(A)), 1, n_min))
    maps = maps_of(A, layer)
    if isinstance(metric, PassMetric):
        metric.update(Pass([maps]))
    else:
        for block in maps.blocks(n_min):
            for tile in block.tiles():
                metric.update(tile)
    return {key: value[layer].numpy() for key, value in metric.compute().items()}


def one_hot(columns, T):
    """A map whose row i looks at columns[i] only."""
    return np.eye(T)[columns]


def uniform(T):
    return np.tril(np.ones((T, T))) / np.arange(1, T + 1)[:, None]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_results_agree_with_the_fixtures(oracle, dtype, tolerance):
    pattern = SkipPattern.from_tables(oracle["key_source"], oracle["value_source"])
    weights = {name.removeprefix("weights/"): a for name, a in oracle.items() if name.startswith("weights/")}
    model = GPT.from_gpt2(weights, pattern).to(dtype)
    results = measure_heads(model, torch.as_tensor(oracle["tokens"]), n_min=int(oracle["n_min"]))
    expected = {name.removeprefix("diversity/"): a for name, a in oracle.items() if name.startswith("diversity/")}
    assert len(expected) == 9
    for name, value in expected.items():
        np.testing.assert_allclose(results[name], value, rtol=0, atol=tolerance, err_msg=name)
    assert all(value.dtype == np.float64 for value in results.values())


@settings(max_examples=25, deadline=None)
@given(models(), st.integers(1, 16), st.integers(1, 5), st.integers(1, 20), st.integers(1, 20))
def test_any_model_and_tile_size_agrees_with_the_definitions(model, T, n_min, rows, keys):
    n_min = min(n_min, T)
    tokens = random_tokens(2, T)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_maps, "ROWS", rows)
        patch.setattr(attention_maps, "KEYS", keys)
        results = measure_heads(model, tokens, n_min)
    with capture(model) as captured:
        model(tokens)
    for layer, call in enumerate(captured.calls):
        for name, expected in map_metrics(softmax_maps(call.queries, call.keys), n_min).items():
            np.testing.assert_allclose(results[name][layer], expected, rtol=1e-9, atol=1e-11, err_msg=name)


def test_results_by_position_are_those_of_the_rows_of_the_bucket():
    A = np.random.default_rng(0).dirichlet(np.ones(16), (3, 16)) * np.tril(np.ones((16, 16)))
    A /= A.sum(-1, keepdims=True)
    metric = METRICS["Entropy"](Setting(SkipPattern.baseline(1, 3), 1, 3))
    pairwise = METRICS["PairwiseJSD"](Setting(SkipPattern.baseline(1, 3), 1, 3))
    maps = maps_of(A)
    pairwise.update(Pass([maps]))
    for block in maps.blocks(3):
        for tile in block.tiles():
            metric.update(tile)
    buckets = {1: A[:, 2:3], 2: A[:, 3:7], 3: A[:, 7:15], 4: A[:, 15:16]}  # rows that see 3, 4-7, 8-15, 16 keys
    for b, part in buckets.items():
        entropy = -(part * np.log(np.where(part > 0, part, 1))).sum(-1).mean(1)
        np.testing.assert_allclose(metric.by_position()["entropy"][b, 0], entropy, atol=1e-12)
        whole = np.zeros_like(A)
        whole[:, :16] = np.eye(16)  # rows elsewhere alike in all heads: they add nothing
        start = {1: 2, 2: 3, 3: 7, 4: 15}[b]
        whole[:, start : start + part.shape[1]] = part
        expected = measure("PairwiseJSD", whole)["pairwise_jsd"] * 16 / part.shape[1]
        np.testing.assert_allclose(pairwise.by_position()["pairwise_jsd"][b, 0], expected, atol=1e-12)
    assert torch.isnan(metric.by_position()["entropy"][0]).all()


def test_identical_heads():
    A = np.stack([uniform(20)] * 3)
    assert measure("PairwiseJSD", A)["pairwise_jsd"].max() < 1e-15
    jsd = measure("GeneralisedJSD", A)
    assert jsd["generalised_jsd"] < 1e-12
    overlap = measure("Bhattacharyya", A)
    np.testing.assert_allclose(overlap["bhattacharyya"], 1, atol=1e-12)
    np.testing.assert_allclose(overlap["effective_heads"], 1, atol=1e-9)
    one_hots = np.stack([one_hot(np.arange(20), 20)] * 3)
    np.testing.assert_allclose(measure("PositionDisagreement", one_hots)["position_disagreement"], -1)


def test_disjoint_heads():
    T, H = 20, 4
    A = np.stack([one_hot(np.maximum(np.arange(T) - h, 0), T) for h in range(H)])  # disjoint from row 3 on
    off = ~np.eye(H, dtype=bool)
    np.testing.assert_allclose(measure("PairwiseJSD", A, n_min=H)["pairwise_jsd"][off], math.log(2), atol=1e-12)
    np.testing.assert_allclose(measure("GeneralisedJSD", A, n_min=H)["generalised_jsd"], math.log(H), atol=1e-12)
    overlap = measure("Bhattacharyya", A, n_min=H)
    np.testing.assert_allclose(overlap["bhattacharyya"], np.eye(H), atol=1e-12)
    np.testing.assert_allclose(overlap["effective_heads"], H, atol=1e-9)
    np.testing.assert_allclose(measure("PositionDisagreement", A, n_min=H)["position_disagreement"], -1 / H, atol=1e-12)


def test_two_groups_of_heads_differ_by_ln_2_between_and_0_within():
    T = 20
    own, back = one_hot(np.arange(T), T), one_hot(np.maximum(np.arange(T) - 1, 0), T)
    A = np.stack([back, back, own, own])
    pattern = SkipPattern.skip_layer(2, 4, distance=1, heads=2)
    jsd = measure("GeneralisedJSD", A, 2, pattern, layer=1)
    expected = {"": math.log(2), "_between": math.log(2), "_within": 0, "_own_heads": 0, "_skip_heads": 0}
    for suffix, value in expected.items():
        np.testing.assert_allclose(jsd[f"generalised_jsd{suffix}"], value, atol=1e-12, err_msg=suffix)


def test_uniform_rows_on_sets_that_share_keys():
    """Uniform on k keys each, m of them shared: (1 - m/k) ln 2 (metrics.md)."""
    T, k, m = 12, 4, 1
    A = np.tile(np.eye(T), (2, 1, 1))
    A[0, -1], A[1, -1] = np.eye(T)[:k].mean(0), np.eye(T)[k - m : 2 * k - m].mean(0)
    jsd = measure("PairwiseJSD", A, n_min=T)["pairwise_jsd"][0, 1]
    np.testing.assert_allclose(jsd, (1 - m / k) * math.log(2), atol=1e-12)


def test_uniform_maps():
    T = 50
    A = uniform(T)[None]
    harmonic = sum(1 / n for n in range(1, T + 1))
    entropy = measure("Entropy", A)
    np.testing.assert_allclose(entropy["entropy"], math.lgamma(T + 1) / T, atol=1e-12)
    np.testing.assert_allclose(measure("Entropy", A, 2)["normalised_entropy"], 1, atol=1e-12)
    distance = measure("AttentionDistance", A)
    np.testing.assert_allclose(distance["attention_distance"], (T - 1) / 4, atol=1e-12)
    np.testing.assert_allclose(measure("Confidence", A)["confidence"], harmonic / T, atol=1e-12)
    np.testing.assert_allclose(measure("SinkMass", A)["sink_mass"], harmonic / T, atol=1e-12)
    np.testing.assert_allclose(measure("PreviousToken", A)["previous_token"], (harmonic - 1) / (T - 1), atol=1e-12)


def test_one_hot_maps():
    T = 30
    own, back = one_hot(np.arange(T), T), one_hot(np.maximum(np.arange(T) - 1, 0), T)
    A = np.stack([own, back])
    np.testing.assert_allclose(measure("AttentionDistance", A, 2)["attention_distance"], [0, 1], atol=1e-12)
    np.testing.assert_allclose(measure("AttentionDistance", A, 3)["attention_distance_off_sink"], [0, 1], atol=1e-12)
    np.testing.assert_allclose(measure("Entropy", A)["entropy"], 0, atol=1e-12)
    np.testing.assert_allclose(measure("Confidence", A)["confidence"], 1, atol=1e-12)
    np.testing.assert_allclose(measure("PreviousToken", A)["previous_token"], [0, 1], atol=1e-12)


def test_induction_of_a_head_that_looks_after_the_earlier_copy():
    m = 6
    finds = one_hot(np.where(np.arange(2 * m) >= m, np.arange(2 * m) - m + 1, 0), 2 * m)
    metric = Induction(Setting(SkipPattern.baseline(1, 2), 1))
    metric.update(maps_of(np.stack([finds, uniform(2 * m)])))
    expected = [1, np.mean([1 / n for n in range(m + 1, 2 * m + 1)])]
    np.testing.assert_allclose(metric.compute()["induction"][0], expected, atol=1e-12)


@settings(max_examples=5, deadline=None)
@given(models())
def test_induction_is_read_off_the_maps_of_repeated_tokens(model):
    once = np.random.default_rng(3).integers(model.config.vocab_size, size=(2, 5))
    with capture(model) as captured:
        model(torch.as_tensor(np.tile(once, 2)))
    scores = induction_scores(model, 5, sequences=2, seed=3)
    for layer, call in enumerate(captured.calls):
        A = softmax_maps(call.queries, call.keys)
        expected = np.mean([A[:, :, i, i - 4] for i in range(5, 10)], axis=(0, 1))
        np.testing.assert_allclose(scores[layer], expected, atol=1e-12)
    with pytest.raises(InputError, match="length=9 is not possible; choose 1 to 8"):
        induction_scores(model, 9)
