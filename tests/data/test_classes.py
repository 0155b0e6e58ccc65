"""Classes of scored tokens against a direct loop over the tokens of a handful of documents."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest

from sla_ablate.data import classes
from sla_ablate.data.batches import DocumentWindows
from sla_ablate.data.classes import ClassSums, TokenCounts, frequency_cuts
from sla_ablate.data.config import DataConfig
from sla_ablate.data.shards import prepare
from sla_ablate.data.splits import split_of

T = 12


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Thirty documents that repeat themselves, as a byte-pair vocabulary sees them."""
    rng = np.random.default_rng(0)
    words = [*"the law of all the lands shall be kept\n by each state".split(" "), "é", "zeal", "\tnew"]
    p = 1 / np.arange(1, len(words) + 1)
    texts = {f"doc{i}": " ".join(rng.choice(words, 1 + 4 * i, p=p / p.sum())) for i in range(29)}
    odd = next(name for name in map(str, range(99)) if split_of(name, 0.4) == "validation")
    texts[odd] = "Queue queue ququ 🙂🙂🙂🙂 " * 9  # types and bigrams that the training split lacks
    folder = tmp_path_factory.mktemp("classes")
    (folder / "c.jsonl").write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in texts.items()))
    config = DataConfig(str(folder / "c.jsonl"), vocab_size=270, validation_fraction=0.4, cache=str(folder))
    return prepare(config, log=str)


def measured(shards, cap, nll_of):
    """Sums over batches, where `nll_of` gives each target's nll from its place in the shard."""
    documents = shards.scored(cap)
    sums = ClassSums(shards, TokenCounts.of(shards, cap, log=str), T)
    # The same windows over places instead of tokens tell where each target stands.
    places = np.arange(len(shards.validation))
    end = shards.tokenizer.end_of_text
    both = (DocumentWindows(tokens, documents, end, T) for tokens in (shards.validation, places))
    for (inputs, targets, _), (_, where, _) in zip(*(windows.batches(5) for windows in both), strict=True):
        sums.add(inputs.numpy(), targets.numpy(), nll_of[where.numpy()])
    return documents, sums.result()


def direct(shards, documents, nll_of):
    """The definition, token by token."""
    train = shards.train.tolist()
    types, bigrams = Counter(train), Counter(itertools.pairwise(train))
    rare = max(1, 1.25e-6 * shards.manifest["splits"]["train"]["tokens"])
    texts = [
        (row.start, shards.validation[row.start : row.start + row.tokens].tolist()) for row in documents.itertuples()
    ]
    total = sum(len(text) for _, text in texts)
    scored = Counter(types[token] for _, text in texts for token in text)
    up_to = {count: sum(n for other, n in scored.items() if other <= count) for count in sorted(scored)}
    cuts = [min(up_to, key=lambda count: abs(up_to[count] - total * k / 10)) for k in range(1, 10)]
    found = {}
    for start, text in texts:
        for i, token in enumerate(text):
            in_window = i % T
            window = text[max(0, i - in_window - 1) : i]  # what the model sees before, without the end of text
            seen = list(itertools.pairwise(window))
            if i and (text[i - 1], token) in seen:
                recall = "rare_hit" if bigrams[text[i - 1], token] <= rare else "other_hit"
            else:
                recall = "no_hit"
            of = {
                "frequency": str(1 + sum(cut < types[token] for cut in cuts)),
                "word": "begins" if i == 0 or shards.tokenizer.decode([token])[0] in " \n\t" else "goes_on",
                "recall": recall,
                "position": str(2 ** ((in_window + 1).bit_length() - 1)),
            }
            for partition, name in of.items():
                sums = found.setdefault(partition, {}).setdefault(name, {"tokens": 0, "nll": 0.0})
                sums["tokens"] += 1
                sums["nll"] += nll_of[start + i]
    return found


@pytest.mark.parametrize("cap", [None, 600])
@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_classes_are_those_of_a_direct_loop(shards, cap, chunk, monkeypatch):
    monkeypatch.setattr(classes, "_CHUNK", chunk)
    for stored in shards.folder.glob("classes-*"):
        stored.unlink()
    nll_of = np.random.default_rng(1).exponential(size=len(shards.validation))
    documents, result = measured(shards, cap, nll_of)
    expected = direct(shards, documents, nll_of)
    assert set(result) == set(expected)
    for partition, of_class in result.items():
        assert sum(sums["tokens"] for sums in of_class.values()) == documents["tokens"].sum()
        for name, sums in of_class.items():
            wanted = expected[partition].get(name, {"tokens": 0, "nll": 0.0})
            assert sums["tokens"] == wanted["tokens"], (partition, name)
            assert sums["nll"] == pytest.approx(wanted["nll"], rel=1e-12)
    assert all(sums["tokens"] for sums in result["recall"].values())
    assert list(result["position"]) == ["1", "2", "4", "8"]


def test_counts_are_made_once_and_again_if_damaged(shards, lines):
    first = TokenCounts.of(shards, 500, lines.append)
    assert len(lines) == 1 and lines[0].startswith("counting the training split: ")
    assert first.types.sum() == len(shards.train)
    (path,) = shards.folder.glob("classes-*-500.npz")
    for damage in (None, path.read_bytes()[:100], b""):
        if damage is not None:
            path.write_bytes(damage)
        again = TokenCounts.of(shards, 500, lines.append)
        assert all(np.array_equal(a, b) for a, b in zip(vars(first).values(), vars(again).values(), strict=True))
    assert len(lines) == 3


def test_cuts_keep_ties_together_and_the_rarest_are_never_none():
    counts = np.array([0, 5, 5, 9, 1, 0])
    scored = np.array([1, 30, 30, 39, 0, 0])  # up to: 1 at count 0, 61 at 5, 100 at 9
    assert frequency_cuts(counts, scored).tolist() == [0, 0, 0, 5, 5, 5, 5, 5, 9]
    assert frequency_cuts(np.array([3]), np.array([7])).tolist() == [3] * 9
    even = frequency_cuts(np.arange(100), np.ones(100, int))
    assert even.tolist() == [9, 19, 29, 39, 49, 59, 69, 79, 89]
