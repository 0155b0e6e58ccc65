"""What must not change a result, and what results must obey."""

from __future__ import annotations

import math
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from random_models import model_of, models, random_tokens
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchmetrics.utilities.data import dim_zero_sum

from analysis import HeadDiversity, measure_heads
from analysis.diversity import maps as attention_maps
from analysis.diversity import metrics
from analysis.diversity.metric import Setting
from sla_ablate import SkipPattern
from sla_ablate.errors import InputError
from sla_ablate.model.capture import capture

SLA = SkipPattern.skip_layer(3, 4, distance=1, heads=2)


def captured_pass(model, tokens):
    with torch.no_grad(), capture(model) as captured:
        model(tokens)
    return captured


def diversity(model, *batches, n_min=2, **options):
    """A HeadDiversity that has seen some batches of tokens."""
    metric = HeadDiversity(Setting(model.pattern, model.config.head_size, n_min, **options))
    for tokens in batches:
        metric.update(captured_pass(model, tokens))
    return metric


def assert_same(a, b, tolerance=1e-12):
    assert a.keys() == b.keys()
    for name in a:
        # Singular values that are 0 come out as the square root of the covariance's rounding errors.
        atol = max(tolerance, 1e-5) if name.startswith("output_effective_rank") else tolerance
        x, y = torch.as_tensor(a[name]), torch.as_tensor(b[name])
        torch.testing.assert_close(x, y, rtol=0, atol=atol, equal_nan=True, msg=name)


@settings(max_examples=10, deadline=None)
@given(models(), st.integers(1, 4), st.booleans())
def test_batches_and_ranks_may_be_split_anywhere(model, cut, sampled):
    tokens = random_tokens(5, 12)
    options = {"query_rows": 4} if sampled else {}
    whole = diversity(model, tokens, **options).compute()
    assert_same(whole, diversity(model, tokens[:cut], tokens[cut:], **options).compute())
    if not sampled:  # ranks draw rows of their own
        one, other = diversity(model, tokens[:cut]), diversity(model, tokens[cut:])
        one.compute()
        one.merge_state(other)
        assert_same(whole, one.compute())
    one = diversity(model, tokens[:cut], **options)
    one.reset()
    one.update(captured_pass(model, tokens))
    assert_same(whole, one.compute())


def test_every_state_is_summed_over_ranks_in_float64_and_stays_so_in_a_bfloat16_run():
    model = model_of(SLA).bfloat16()
    metric = diversity(model)
    model.metric = metric
    model.to(torch.bfloat16).half().bfloat16()
    for child in metric.metrics:
        assert set(child._reductions.values()) == {dim_zero_sum}
        assert {getattr(child, name).dtype for name in child._defaults} <= {torch.float64, torch.int64}
    del model.metric
    captured = captured_pass(model, random_tokens(2, 12))
    assert captured.calls[0].keys.dtype == torch.bfloat16
    metric.update(captured)
    results = metric.compute()
    wide = model_of(SLA)  # the same maps from the same rounded queries and keys
    twin = diversity(wide)
    twin.update(
        type(captured)(
            [weight.double() for weight in captured.output_weights],
            [type(call)(*(x.double() for x in call)) for call in captured.calls],
            [x.double() for x in captured.stream],
        )
    )
    assert_same(results, twin.compute(), 2e-5)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 99))
def test_permuting_heads_permutes_results(order, seed):
    model = model_of(SkipPattern.from_tables(SLA.key_source), seed=seed)
    captured = captured_pass(model, random_tokens(2, 12))
    shuffled = type(captured)(
        [weight[order] for weight in captured.output_weights],
        [type(call)(*(x[:, order] for x in call)) for call in captured.calls],
        captured.stream,
    )
    metric = diversity(model)
    metric.update(captured)
    pattern = SkipPattern.from_tables(SLA.key_source[:, order])
    other = HeadDiversity(Setting(pattern, model.config.head_size, 2))
    other.update(shuffled)
    a, b = metric.compute(), other.compute()
    for name in a:
        permuted = a[name]
        if name == "map_similarity":
            permuted = permuted[:, :, order]
        elif name in ("pairwise_jsd", "pairwise_jsd_error", "bhattacharyya", "output_cka", "pairwise_jsd_by_position",
                      "bhattacharyya_by_position"):  # fmt: skip
            permuted = permuted[..., order, :][..., order]
        elif permuted.shape[-1] == 4 and permuted.ndim > 1:
            permuted = permuted[..., order]
        atol = 1e-5 if "effective_rank" in name else 1e-11
        torch.testing.assert_close(b[name], permuted, rtol=0, atol=atol, equal_nan=True, msg=name)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 3), st.integers(0, 3))
def test_padding_changes_nothing(left, right):
    model = model_of(SLA, positions="rotary")
    captured = captured_pass(model, random_tokens(2, 12))
    noise = torch.Generator().manual_seed(0)

    def pad(x, dim):
        shape = list(x.shape)
        parts = []
        for width in (left, right):
            shape[dim] = width
            parts.append(torch.randn(shape, generator=noise, dtype=x.dtype))
        return torch.cat([parts[0], x, parts[1]], dim)

    padded = type(captured)(
        captured.output_weights,
        [type(call)(*(pad(x, 2) for x in call)) for call in captured.calls],
        [pad(x, 1) for x in captured.stream],
    )
    real = torch.zeros(2, left + 12 + right, dtype=torch.bool)
    real[:, left : left + 12] = True
    a, b = diversity(model), diversity(model)
    a.update(captured)
    b.update(padded, real)
    assert_same(a.compute(), b.compute())


@settings(max_examples=15, deadline=None)
@given(models(), st.integers(1, 4))
def test_bounds_and_the_chain_rule(model, n_min):
    r = measure_heads(model, random_tokens(2, 12), n_min)
    H = model.config.n_head
    jsd, overlap = r["pairwise_jsd"], r["bhattacharyya"]
    assert np.array_equal(jsd, jsd.swapaxes(1, 2))
    assert (jsd.diagonal(axis1=1, axis2=2) == 0).all()
    assert (math.log(2) * (1 - overlap) <= jsd + 1e-12).all()
    assert (jsd <= 1 - overlap + 1e-12).all()
    assert ((r["generalised_jsd"] >= 0) & (r["generalised_jsd"] <= math.log(H) + 1e-12)).all()
    assert ((r["effective_heads"] >= 1 - 1e-9) & (r["effective_heads"] <= H + 1e-9)).all()
    assert ((r["position_disagreement"] >= -1) & (r["position_disagreement"] <= 0)).all()
    skips = r["is_skip"].mean(1)
    within = np.nansum([(1 - skips) * r["generalised_jsd_own_heads"], skips * r["generalised_jsd_skip_heads"]], 0)
    np.testing.assert_allclose(r["generalised_jsd_within"], within, atol=1e-12)
    np.testing.assert_allclose(r["generalised_jsd"], r["generalised_jsd_between"] + within, atol=1e-12)


def test_without_skip_heads_there_is_nothing_between_the_groups():
    r = measure_heads(model_of(SkipPattern.baseline(2, 3)), random_tokens(2, 12), 2)
    assert (r["generalised_jsd_between"] == 0).all()
    np.testing.assert_array_equal(r["generalised_jsd"], r["generalised_jsd_within"])
    assert np.isnan(r["generalised_jsd_skip_heads"]).all()
    assert np.isnan(r["source_jsd"]).all()
    assert (r["is_skip"] == 0).all()


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation returned."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.numel = max(self.numel, leaf.untyped_storage().nbytes() // leaf.element_size())
        return result


def test_no_tensor_grows_with_the_square_of_the_context(monkeypatch):
    monkeypatch.setattr(attention_maps, "ROWS", 8)
    monkeypatch.setattr(attention_maps, "KEYS", 16)
    largest = []
    for T in (128, 256):
        model = model_of(SLA, block_size=T, head_size=2)
        captured = captured_pass(model, random_tokens(1, T))
        metric = HeadDiversity(Setting(SLA, 2))
        with Largest() as mode:
            metric.update(captured)
        largest.append(mode.numel)
    assert largest[1] <= 2 * largest[0]
    assert largest[1] < 256 * 256


def test_a_metric_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "gini_simpson.py").write_text(
        "from analysis.diversity.metric import TileMetric\n"
        "class GiniSimpson(TileMetric):\n"
        "    shapes = {'sum_of_squares': 'LH'}\n"
        "    def sums(self, tile):\n"
        "        return {'sum_of_squares': tile.p.square().sum((1, 2))}\n"
    )
    monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path)])
    model = model_of(SLA)
    results = measure_heads(model, random_tokens(2, 12), 2)
    sys.modules.pop(f"{metrics.__name__}.gini_simpson")
    assert results["sum_of_squares"].shape == (3, 4)
    assert results["sum_of_squares_skip"].shape == (3,)
    assert results["sum_of_squares_by_position"].shape == (4, 3, 4)


def test_measuring_leaves_the_model_as_it_was_and_bad_rows_are_refused():
    model = model_of(SLA, dropout=0.5).train()
    tokens = random_tokens(1, 12)
    first = measure_heads(model, tokens, 2)
    assert model.training
    assert_same(first, measure_heads(model, tokens, 2))
    with pytest.raises(InputError, match="n_min=13 is not possible with 12 tokens; choose 1 to 12"):
        measure_heads(model, tokens, 13)
    with pytest.raises(InputError, match="query_rows=3 is not possible; choose an even number from 2 to 11"):
        measure_heads(model, tokens, 2, query_rows=3)
