import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sla_ablate.data.corpora import Document
from sla_ablate.data.splits import split_of, with_splits


def cut(text, fraction):
    """The parts of each split of a single document."""
    is_cut, pairs = with_splits([Document("a", text)], fraction)
    assert is_cut
    parts = {"train": [], "validation": []}
    for split, part in pairs:
        assert split == "train" or part.text  # all of the training split comes first
        parts[split].append(part.text)
    return parts


@given(
    st.lists(st.sampled_from(["a", "word ", "two words\n", "paragraph.\n\n", "\r\n\r\n", "長い"]), min_size=2).map(
        "".join
    ),
    st.integers(1, 400),
    st.floats(0.01, 0.99),
)
def test_the_parts_are_the_text_and_validation_its_end(text, times, fraction):
    text = text * times
    parts = cut(text, fraction)
    train, validation = map("".join, parts.values())
    assert train + validation == text
    assert abs(len(validation) - fraction * len(text)) <= min(fraction, 1 - fraction) * len(text) / 2 + 1


@pytest.mark.parametrize(
    ("piece", "end"),
    [
        ("a line\nand another of some words\n\n", r"\n\n"),
        ("a line\r\nand another\r\n \r\n", r"\r\n"),
        ("lines of a poem, of which none is empty\n", r"\n"),
        ("words, ", " "),
        ("日本語", ""),
    ],
)
def test_a_cut_is_at_the_best_end_that_there_is(piece, end):
    text = piece * (1_000_000 // len(piece))
    parts = cut(text, 0.1)
    assert len(parts["validation"]) in range(18, 23) and len(parts["train"]) in range(170, 190)
    everything = [*parts["train"], *parts["validation"]]
    assert all(re.search(f"{end}$", part) for part in everything)
    if end == r"\n\n":
        assert all(part.startswith("a line") for part in everything)
    share = len("".join(parts["validation"])) / len(text)
    assert share == pytest.approx(0.1, abs=0.001)


def test_one_huge_paragraph_between_small_ones_is_cut_at_a_line():
    text = "short\n\n" * 10 + "a line of it\n" * 10_000 + "\nlast"
    validation = "".join(cut(text, 0.2)["validation"])
    assert validation.startswith("a line of it\n")
    assert len(validation) / len(text) == pytest.approx(0.2, abs=0.001)


def test_several_documents_are_split_by_their_ids_alone():
    documents = [Document(str(i), "text") for i in range(50)]
    is_cut, pairs = with_splits(iter(documents), 0.3)
    assert not is_cut
    assert list(pairs) == [(split_of(each.id, 0.3), each) for each in documents]
