"""Which rows count, and the estimate from some of them."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given
from random_models import model_of, random_tokens

from analysis import measure_heads
from analysis.diversity.rows import Sample, blocks, bucket, stratified
from sla_ablate import SkipPattern


@given(st.integers(1, 40), st.integers(0, 300), st.integers(1, 70))
def test_blocks_are_all_rows_in_order_each_of_one_bucket(n_min, T, size):
    parts = list(blocks(n_min, T, size))
    rows = [row for part in parts for row in part.tolist()]
    assert rows == list(range(n_min - 1, T))
    assert all(1 <= len(part) <= size and len(set(bucket(part).tolist())) == 1 for part in parts)
    assert all(2**b <= row + 1 < 2 ** (b + 1) for row, b in zip(rows, bucket(torch.tensor(rows)).tolist(), strict=True))


@given(st.integers(2, 60), st.data())
def test_two_rows_from_each_stratum(n_rows, data):
    n = 2 * data.draw(st.integers(1, n_rows // 2))
    sample = stratified(torch.arange(5, 5 + n_rows), n, seed=1)
    assert sample.strata.sum() == n_rows
    assert sample.strata.max() - sample.strata.min() <= 1
    edges = np.cumsum([5, *sample.strata.tolist()])
    for (a, b), low, high in zip(sample.rows.view(-1, 2).tolist(), edges, edges[1:], strict=False):
        assert low <= a < b < high
    assert torch.equal(sample.rows, stratified(torch.arange(5, 5 + n_rows), n, seed=1).rows)


def test_total_and_variance_are_unbiased_over_all_possible_samples():
    values = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0], dtype=torch.float64)
    strata = torch.tensor([4, 3])
    totals, variances = [], []
    for first, second in itertools.product(itertools.combinations(range(4), 2), itertools.combinations(range(4, 7), 2)):
        sample = Sample(torch.tensor([*first, *second]), strata)
        totals.append(sample.total(values[sample.rows]).item())
        variances.append(sample.variance(values[sample.rows]).item())
    np.testing.assert_allclose(np.mean(totals), values.sum())
    np.testing.assert_allclose(np.mean(variances), np.var(totals))


def test_pairwise_divergence_from_some_rows_is_within_its_error():
    model = model_of(SkipPattern.skip_layer(2, 3, distance=1, heads=1), block_size=200)
    tokens = random_tokens(4, 200)
    every = measure_heads(model, tokens)
    some = measure_heads(model, tokens, query_rows=40)
    assert (some["pairwise_jsd_rows"] == 4 * 40).all()
    assert (every["pairwise_jsd_rows"] == 4 * 185).all()
    assert (every["pairwise_jsd_error"] == 0).all()
    off = ~np.eye(3, dtype=bool)
    error = some["pairwise_jsd_error"][:, off]
    z = (some["pairwise_jsd"] - every["pairwise_jsd"])[:, off] / error
    assert (error > 0).all()
    assert (abs(z) < 4).all()
    mean_error = some["pairwise_jsd_off_diagonal_error"]
    assert (abs(some["pairwise_jsd_off_diagonal"] - every["pairwise_jsd_off_diagonal"]) < 4 * mean_error).all()
    assert (mean_error < error.max(1)).all()
    same = [name for name in every if not name.startswith("pairwise_jsd")]
    assert all(np.array_equal(some[name], every[name], equal_nan=True) for name in same)
