"""Metrics across layers, and of what heads read and write, from their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from direct import map_metrics, softmax_maps
from hypothesis import given, settings
from random_models import model_of, models, random_tokens

from analysis import measure_heads
from analysis.diversity.metric import Pass, Setting
from analysis.diversity.metrics.disagreement import Disagreement
from analysis.diversity.metrics.output_geometry import OutputGeometry
from analysis.diversity.metrics.rank_residual import RankResidual
from analysis.diversity.roles import block_means, role_means, skip_heads, source_layers
from sla_ablate import SkipPattern
from sla_ablate.model.capture import capture

N_MIN = 3


def measured(model, tokens):
    results = measure_heads(model, tokens, N_MIN)
    with torch.no_grad(), capture(model) as captured:
        model(tokens)
    return results, captured


@settings(max_examples=10, deadline=None)
@given(models())
def test_similarity_of_layers_and_of_skip_heads_to_their_sources(model):
    tokens = random_tokens(2, 12)
    results, captured = measured(model, tokens)
    A = np.stack([softmax_maps(call.queries, call.keys) for call in captured.calls])  # [L, B, H, T, T]
    columns = A[..., N_MIN - 1 :, : 12 - N_MIN + 1]  # those that at least N_MIN of the rows see
    unit = columns / np.linalg.norm(columns, axis=-2, keepdims=True)
    cosines = np.einsum("abhik,cbhik->achk", unit, unit).mean(-1) / len(tokens)
    np.testing.assert_allclose(results["map_similarity"], cosines, atol=1e-11)
    np.testing.assert_allclose(results["map_similarity"].diagonal().T, 1, atol=1e-11)

    skips, sources = skip_heads(model.pattern), source_layers(model.pattern)
    assert np.array_equal(np.isnan(results["source_jsd"]), ~skips)
    for layer, h in np.argwhere(skips):
        pair = map_metrics(np.stack([A[layer, :, h], A[sources[layer, h], :, h]], 1), N_MIN)
        np.testing.assert_allclose(results["source_jsd"][layer, h], pair["pairwise_jsd"][0, 1], atol=1e-11)
        np.testing.assert_allclose(results["source_bhattacharyya"][layer, h], pair["bhattacharyya"][0, 1], atol=1e-11)


@settings(max_examples=10, deadline=None)
@given(models())
def test_disagreement_and_rank_residual(model):
    tokens = random_tokens(2, 12)
    results, captured = measured(model, tokens)

    def disagreement(x):  # [B, H, T, width]
        unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
        return -np.einsum("bhtd,bgtd->bthg", unit, unit)[:, N_MIN - 1 :].mean()

    for layer, call in enumerate(captured.calls):
        weight = model.h[layer].attn.c_proj.weight.detach().numpy()  # [C, H·d]
        written = np.stack(
            [o @ w.T for o, w in zip(call.outputs.numpy().swapaxes(0, 1),
                                     np.split(weight, model.config.n_head, 1), strict=True)], 1
        )  # fmt: skip
        for name, x in (("value", call.values), ("output", call.outputs), ("write", written)):
            np.testing.assert_allclose(results[f"{name}_disagreement"][layer], disagreement(np.asarray(x)), atol=1e-11)
    for i, x in enumerate(captured.stream):
        parts = [s - s.mean(0) for s in x.numpy()]
        ratio = [np.linalg.norm(part) / np.linalg.norm(s) for part, s in zip(parts, x.numpy(), strict=True)]
        np.testing.assert_allclose(results["rank_residual"][i], np.mean(ratio), atol=1e-12)


def test_the_stream_of_a_repeated_token_without_positions_has_no_residual():
    metric = RankResidual(Setting(SkipPattern.baseline(1, 1), 1))
    metric.update(Pass([], stream=[torch.ones(5, 3), torch.tensor([[1.0, 0], [-1.0, 0]])]))
    np.testing.assert_allclose(metric.compute()["rank_residual"], [0, 1], atol=1e-12)


def geometry(outputs):
    """Results of outputs [H, tokens, d], given in two parts."""
    metric = OutputGeometry(Setting(SkipPattern.baseline(1, len(outputs)), outputs.shape[-1], n_min=1))
    for part in outputs.tensor_split(2, dim=1):
        metric.update(Pass([_Tokens(part.shape[1])], outputs=[part]))
    return {name: value[0].numpy() for name, value in metric.compute().items()}


class _Tokens:
    def __init__(self, n_tokens):
        self.n_tokens = n_tokens


def test_cka_and_effective_rank_from_their_definitions():
    n, d = 400, 3
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d)) * [3, 2, 1] + [5, 0, 1]
    rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]
    y = rng.normal(size=(n, d)) + 0.5 * x
    results = geometry(torch.as_tensor(np.stack([x, 2.5 * x @ rotation + 7, y])))
    np.testing.assert_allclose(results["output_cka"][0, 1], 1, atol=1e-10)  # Y = aXQ + b

    def gram(a):
        a = a - a.mean(0)
        return a @ a.T

    expected = (gram(x) * gram(y)).sum() / np.linalg.norm(gram(x)) / np.linalg.norm(gram(y))  # HSIC, the dual form
    np.testing.assert_allclose(results["output_cka"][0, 2], expected, atol=1e-10)
    sigma = np.linalg.svd(x - x.mean(0), compute_uv=False)
    sigma /= sigma.sum()
    np.testing.assert_allclose(results["output_effective_rank"][0], np.exp(-(sigma * np.log(sigma)).sum()), atol=1e-9)


def test_cka_of_independent_outputs_is_about_width_over_tokens():
    n, d = 4000, 8
    results = geometry(torch.randn(2, n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    assert results["output_cka"][0, 1] == pytest.approx(d / n, rel=0.5)
    np.testing.assert_allclose(results["output_effective_rank"], d, rtol=1e-3)


def test_a_change_of_basis_inside_a_head_alters_raw_outputs_only():
    generator = torch.Generator().manual_seed(0)
    o, w, basis = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((2, 20, 4), (2, 4, 8),
                                                                                             (2, 4, 4)))  # fmt: skip
    before, after = (Disagreement(Setting(SkipPattern.baseline(1, 2), 4, 1)) for _ in range(2))
    before.update(Pass([_Tokens(20)], [o], [o], [w]))
    after.update(Pass([_Tokens(20)], [o @ basis], [o @ basis], [torch.linalg.solve(basis, w)]))
    a, b = before.compute(), after.compute()
    torch.testing.assert_close(a["write_disagreement"], b["write_disagreement"], rtol=0, atol=1e-10)
    assert not torch.allclose(a["output_disagreement"], b["output_disagreement"], atol=1e-3)


def test_means_by_role():
    skip = torch.tensor([[False, False, False], [True, False, True]])
    values = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 5.0]])
    means = role_means(values, skip)
    np.testing.assert_allclose(means["own"], [2, 2])
    np.testing.assert_allclose(means["skip"], [np.nan, 3])
    matrix = torch.arange(18.0).view(2, 3, 3)
    blocks = block_means(matrix, skip)
    np.testing.assert_allclose(blocks["off_diagonal"], [4, 13])
    np.testing.assert_allclose(blocks["own_own"], [4, np.nan])
    np.testing.assert_allclose(blocks["own_skip"], [np.nan, np.mean([10, 12, 14, 16])])
    np.testing.assert_allclose(blocks["skip_skip"], [np.nan, np.mean([11, 15])])


def test_a_head_that_takes_only_values_from_below_is_a_skip_head_compared_with_that_layer():
    pattern = SkipPattern.from_tables([[0, 0], [1, 0], [2, 1]], [[0, 0], [0, 1], [2, 0]])
    assert skip_heads(pattern).tolist() == [[False, False], [True, True], [False, True]]
    assert source_layers(pattern)[skip_heads(pattern)].tolist() == [0, 0, 1]
    assert not np.isnan(measure_heads(model_of(pattern), random_tokens(1, 12), 2)["source_jsd"][1, 0])
