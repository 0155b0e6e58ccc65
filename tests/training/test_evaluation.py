import math

import pytest
import torch
from random_models import model_of

from analysis.perplexity import Totals
from sla_ablate import SkipPattern
from sla_ablate.training.evaluation import document_nll

T = 6


@pytest.fixture(scope="module")
def model():
    return model_of(SkipPattern.window(2, 2, 1, 1), block_size=T, vocab_size=257)


def last_token_nll(model, text):
    log_probabilities = model(torch.tensor([text[:-1]]))[0, -1].log_softmax(-1)
    return -log_probabilities[text[-1]].item()


@pytest.mark.parametrize("stride", [1, 4, T])
@pytest.mark.parametrize("tokens", [None, 320])
@torch.no_grad()
def test_a_token_is_scored_given_the_tokens_of_its_window(stride, tokens, model, short_shards):
    """One pass for each token: with stride 1 it sees all of the last T tokens, the start token among them."""
    result = document_nll(model, short_shards, stride, tokens=tokens)
    scored = short_shards.scored(tokens)
    assert result["documents"] == scored["id"].tolist()
    assert all(result[column] == scored[column].tolist() for column in ("tokens", "bytes", "words"))
    assert (result["context_length"], result["stride"]) == (T, stride)
    assert max(result["tokens"]) > 3 * T
    for i, row in enumerate(scored.itertuples()):
        text = [256, *short_shards.validation[row.start : row.start + row.tokens].tolist()]
        starts = [next(s for s in range(0, len(text), stride) if s + T >= t) for t in range(1, len(text))]
        nll = [last_token_nll(model, text[start : t + 1]) for t, start in enumerate(starts, start=1)]
        assert result["nll"][i] == pytest.approx(math.fsum(nll), rel=1e-12)


def test_the_default_stride_is_the_block_size(model, short_shards):
    assert document_nll(model, short_shards) == document_nll(model, short_shards, stride=T)


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"rolling": True}])
def test_zero_logits_have_the_vocabulary_as_their_perplexity(options, short_shards):
    model = model_of(SkipPattern.baseline(1, 1), block_size=T, vocab_size=257)
    torch.nn.init.zeros_(model.wte.weight)
    totals = Totals.of(document_nll(model, short_shards, **options))
    assert totals.perplexity == pytest.approx(257, rel=1e-12)
    assert totals.bits_per_byte == pytest.approx(math.log2(257), rel=1e-12)  # 256 bytes and end of text
