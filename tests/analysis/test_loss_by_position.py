import json

import numpy as np
import pytest
import torch
from random_models import model_of

from analysis.loss_by_position import position_nll
from sla_ablate import SkipPattern
from sla_ablate.data.config import DataConfig
from sla_ablate.data.shards import prepare
from sla_ablate.errors import InputError

PATTERN = SkipPattern.skip_layer(2, 2, 1, 1)


@pytest.fixture(scope="module")
def model():
    return model_of(PATTERN, block_size=12, vocab_size=257)


@torch.no_grad()
def losses(model, shards, T):
    """Documents of at least T tokens, and their losses at positions 1 to T, one plain pass each."""
    documents = [row for row in shards.documents("validation").itertuples() if row.tokens >= T]
    rows = []
    for row in documents:
        tokens = torch.from_numpy(shards.validation[row.start : row.start + T].astype("int64"))
        logits = model(torch.cat([torch.tensor([256]), tokens[:-1]])[None])[0]
        rows.append(torch.nn.functional.cross_entropy(logits, tokens, reduction="none").numpy())
    return [row.id for row in documents], np.array(rows)


@pytest.mark.parametrize("T", [12, 8, 1])
def test_buckets_are_sums_over_the_positions_they_name(T, model, short_shards):
    result = position_nll(model, short_shards, T)
    documents, expected = losses(model, short_shards, T)
    assert result["documents"] == documents and len(documents) > 1
    buckets = {12: [(1, 2), (2, 4), (4, 8), (8, 13)], 8: [(1, 2), (2, 4), (4, 8), (8, 9)], 1: [(1, 2)]}[T]
    assert result["positions"] == [first for first, _ in buckets]
    assert result["tokens"] == [end - first for first, end in buckets]
    sums = np.stack([expected[:, first - 1 : end - 1].sum(1) for first, end in buckets], 1)
    np.testing.assert_allclose(result["nll"], sums, rtol=1e-12)
    means = [expected[:, first - 1 : end - 1].mean() for first, end in buckets]
    np.testing.assert_allclose(result["nats_per_token"], means, rtol=1e-12)
    assert (result["context_length"], result["start_token"]) == (T, "<|endoftext|>")
    json.dumps(result)


def test_the_context_length_is_the_block_size_by_default(model, short_shards):
    assert position_nll(model, short_shards) == position_nll(model, short_shards, 12)


def test_below_500_tokens_there_is_no_in_context_score(model, short_shards):
    result = position_nll(model, short_shards)
    assert result["in_context"] is None
    assert result["in_context_score"] is None


def test_in_context_score_is_late_minus_early(tmp_path):
    rng = np.random.default_rng(0)
    lines = (json.dumps({"id": f"doc{i}", "text": "".join(rng.choice(list("abcd "), 505 + i))}) for i in range(12))
    (tmp_path / "long.jsonl").write_text("\n".join(lines))
    options = {"tokenizer": "bytes", "validation_fraction": 0.5, "cache": str(tmp_path)}
    shards = prepare(DataConfig(str(tmp_path / "long.jsonl"), **options), log=lambda line: None)
    model = model_of(PATTERN, block_size=503, vocab_size=257)
    _, expected = losses(model, shards, 503)
    result = position_nll(model, shards)
    np.testing.assert_allclose(result["in_context"], expected[:, 499] - expected[:, 49], rtol=1e-10)
    assert result["in_context_score"] == pytest.approx(np.mean(result["in_context"]))
    assert position_nll(model, shards, 499)["in_context_score"] is None
    assert position_nll(model, shards, 500)["in_context"] == pytest.approx(result["in_context"])


@pytest.mark.parametrize("T", [0, 13])
def test_an_impossible_context_length_is_refused(T, model, short_shards):
    with pytest.raises(InputError, match=f"context_length {T} is out of range; choose 1 to 12"):
        position_nll(model, short_shards, T)


def test_documents_that_are_all_too_short_are_refused(short_shards):
    model = model_of(PATTERN, block_size=64, vocab_size=257)
    with pytest.raises(InputError, match=r"no validation document has 64 tokens; .* at most \d\d$"):
        position_nll(model, short_shards)
