"""Which documents are for training and which for validation."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from sla_ablate.data.corpora import Document

SPLITS = ("train", "validation")
_PARTS = 200
"""About how many parts a single document is cut into: several in either split, as documents are what is compared."""
_LEAST = 1000
"""Characters that a part has at least, where there are as many."""
_ENDS = [re.compile(end) for end in (r"\n\s*\n", r"\n", r"\s+")]
"""The ends of paragraphs, of lines and of words, in order of preference."""


def split_of(document_id: str, validation_fraction: float) -> str:
    """The split of a document: by its id alone, whatever else the corpus holds."""
    draw = int.from_bytes(hashlib.sha256(document_id.encode()).digest()[:8], "big") / 2**64
    return "validation" if draw < validation_fraction else "train"


def with_splits(
    documents: Iterable[Document], validation_fraction: float
) -> tuple[bool, Iterator[tuple[str, Document]]]:
    """Tell the split of each document; if there is one only, those of the parts that it is cut into.

    Returns:
        Whether it is cut, and the pairs of a split and a document or part, in their order.
    """
    documents = iter(documents)
    begin = list(islice(documents, 2))
    if len(begin) == 1:
        return True, _parts(begin[0], validation_fraction)
    return False, ((split_of(each.id, validation_fraction), each) for each in chain(begin, documents))


def _parts(document: Document, validation_fraction: float) -> Iterator[tuple[str, Document]]:
    """Cut a document: together the parts are its text, and those of the validation split are its end.

    A part ends where a paragraph does; where there is no such place near, at the end of a line or else of a word.
    """
    text = document.text
    length = max(_LEAST, len(text) // _PARTS)
    held_out = validation_fraction * len(text)
    boundary = _end_near(text, round(len(text) - held_out), min(held_out, len(text) - held_out) / 2)
    number = 0
    for split, start, end in zip(SPLITS, (0, boundary), (boundary, len(text)), strict=True):
        while start < end:
            stop = end if end - start < 2 * length else _end_near(text, start + length, length / 2)
            number += 1
            yield split, Document(f"{document.id}#{number}", text[start:stop])
            start = stop


def _end_near(text: str, target: int, reach: float) -> int:
    """The best place to cut that is at most `reach` characters from a target, and of several the nearest."""
    low, high = int(target - reach), int(target + reach)
    for end in _ENDS:
        places = [low + found.end() for found in end.finditer(text[low:high])]
        if places:
            return min(places, key=lambda place: abs(place - target))
    return target
