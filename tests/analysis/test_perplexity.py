import math

import pytest

from analysis.perplexity import Totals
from sla_ablate.errors import InputError


def validation(nll, tokens, bytes, words):
    return {"nll": nll, "tokens": tokens, "bytes": bytes, "words": words}


def test_is_the_exponential_of_the_mean_not_the_mean_of_exponentials():
    totals = Totals.of(validation([2.0, 4.0], [1, 1], [1, 1], [1, 1]))
    assert totals.perplexity == pytest.approx(20.0855, abs=1e-4)  # a mean of perplexities would be 31.0


def test_documents_count_by_their_tokens():
    totals = Totals.of(validation([1.0, 27.0], [1, 9], [1, 1], [1, 1]))
    assert totals.nats_per_token == 2.8


@pytest.mark.parametrize("vocabulary", [2, 256, 50257])
def test_a_uniform_model_has_the_vocabulary_as_its_perplexity(vocabulary):
    tokens = [3, 5]
    totals = Totals.of(validation([n * math.log(vocabulary) for n in tokens], tokens, tokens, [1, 1]))
    assert totals.perplexity == pytest.approx(vocabulary, rel=1e-12)


def test_uniform_bytes_cost_eight_bits():
    tokens = [3, 5]
    totals = Totals.of(validation([n * math.log(256) for n in tokens], tokens, tokens, [1, 1]))
    assert totals.bits_per_byte == pytest.approx(8, rel=1e-12)


def test_rates_use_their_own_counts():
    totals = Totals.of(validation([4 * math.log(2)], [4], [16], [2]))
    assert totals.perplexity == pytest.approx(2)
    assert totals.bits_per_byte == pytest.approx(0.25)
    assert totals.byte_perplexity == pytest.approx(2**0.25)
    assert totals.word_perplexity == pytest.approx(4)


def test_rates_of_common_names_are_those_of_lm_evaluation_harness():
    theirs = pytest.importorskip("lm_eval.api.metrics")
    nll, bytes, words = [310.5, 17.25, 88.0], [400, 21, 130], [70, 3, 25]
    totals = Totals.of(validation(nll, [100, 5, 30], bytes, words))
    by_byte, by_word = ([(-a, b) for a, b in zip(nll, counts, strict=True)] for counts in (bytes, words))
    assert totals.byte_perplexity == pytest.approx(theirs.weighted_perplexity(by_byte), rel=1e-12)
    assert totals.bits_per_byte == pytest.approx(theirs.bits_per_byte(by_byte), rel=1e-12)
    assert totals.word_perplexity == pytest.approx(theirs.weighted_perplexity(by_word), rel=1e-12)


def test_a_text_of_one_long_word_overflows_to_infinity():
    assert Totals.of(validation([3000.0], [1000], [3000], [1])).word_perplexity == math.inf


def test_a_text_without_words_or_bytes_has_no_such_rate():
    totals = Totals.of(validation([1.0], [1], [0], [0]))
    assert math.isnan(totals.word_perplexity)
    assert math.isnan(totals.bits_per_byte)
    assert math.isnan(totals.byte_perplexity)


def test_no_tokens_is_an_input_error():
    with pytest.raises(InputError, match="no tokens"):
        Totals.of(validation([], [], [], []))
