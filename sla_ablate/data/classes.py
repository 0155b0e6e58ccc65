"""Where a difference of loss is: the classes of scored tokens, and the loss summed by class.

Every scored token is in one class of each partition: `frequency`, tenths of the scored tokens by how often the
target occurs in the training split, from the rarest, 1; `word`, whether the target begins one; `recall`, whether the
bigram that the target ends has occurred in the window before (Arora et al. 2023, arXiv 2312.04927); and `position` in
the window, by powers of two.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sla_ablate.data.progress import Progress
from sla_ablate.data.shards import TokenShards
from sla_ablate.files import read, write_atomically
from sla_ablate.text.telling import tell

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]

TENTHS = 10
BEGINS, GOES_ON = range(2)
RARE_HIT, OTHER_HIT, NO_HIT = range(3)
NAMES = {
    "frequency": [str(tenth) for tenth in range(1, TENTHS + 1)],
    "word": ["begins", "goes_on"],
    "recall": ["rare_hit", "other_hit", "no_hit"],
}
"""The classes of the partitions that do not depend on the context length, in order of their numbers."""
RARE = 1.25e-6
"""A bigram is rare that makes up at most such a part of the training split, or occurs once in it."""
_CHUNK = 1 << 20
_VERSION = 1
_MOST_BYTES = 2**31


@dataclass(frozen=True)
class TokenCounts:
    """What the training split says of the tokens that are scored."""

    types: Array
    """Occurrences of each id in the training split, [V]."""
    cuts: Array
    """Frequency: the largest count in each tenth of the scored tokens but the last, [9]."""
    bigrams: Array
    """The bigrams (a, b) that occur in what is scored, as a·V + b, ascending, [M]."""
    bigram_counts: Array
    """Occurrences of each in the training split, [M]."""

    @classmethod
    def of(cls, shards: TokenShards, tokens: int | None, log: Callable[[str], object] = tell) -> TokenCounts:
        """Count, or read what was counted before, which is kept beside the shards.

        Args:
            shards: whose splits.
            tokens: how many of the validation split are scored; see `TokenShards.scored`.
            log: is told how far counting has come.
        """
        path = shards.folder / f"classes-{_VERSION}-{'all' if tokens is None else tokens}.npz"
        try:
            with np.load(io.BytesIO(read(shards.folder, path.name, _MOST_BYTES))) as stored:
                arrays = dict(stored)
                if arrays.pop("data", shards.digest) == shards.digest:
                    return cls(**arrays)
        except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile):
            pass  # not counted yet, or damaged
        counts = cls._count(shards, shards.scored(tokens), log)
        buffer = io.BytesIO()
        np.savez(buffer, data=np.array(shards.digest), **vars(counts))
        write_atomically(path, buffer.getvalue())
        return counts

    @classmethod
    def _count(cls, shards: TokenShards, scored: pd.DataFrame, log: Callable[[str], object]) -> TokenCounts:
        vocab_size = shards.tokenizer.vocab_size
        in_scored = np.zeros(vocab_size, np.int64)
        bigrams = np.empty(0, np.int64)
        for start, n in scored[["start", "tokens"]].to_numpy(np.int64):
            tokens = shards.validation[start : start + n]
            in_scored += np.bincount(tokens, minlength=vocab_size)
            bigrams = np.union1d(bigrams, _bigrams(tokens[:-1], tokens[1:], vocab_size))
        types = np.zeros(vocab_size, np.int64)
        counts = np.zeros(len(bigrams), np.int64)
        progress = Progress("counting the training split", log)
        for first in range(0, len(shards.train), _CHUNK):
            tokens = shards.train[first : first + _CHUNK + 1]  # and the first of the next, which ends a bigram
            types += np.bincount(tokens[:_CHUNK], minlength=vocab_size)
            found = np.sort(_bigrams(tokens[:-1], tokens[1:], vocab_size))
            counts += np.searchsorted(found, bigrams, "right") - np.searchsorted(found, bigrams, "left")
            progress.add(tokens[:_CHUNK].nbytes, documents=0)
        progress.report()
        return cls(types, frequency_cuts(types, in_scored), bigrams, counts)


def frequency_cuts(counts: Array, scored: Array) -> Array:
    """The largest count in each tenth but the last, [9], each cut being where it is nearest to tenths of equal size.

    Types of equal count stay together, so that a tenth may be empty; the first is not.

    Args:
        counts: occurrences of each type in the training split, [V].
        scored: occurrences among the scored tokens, [V].
    """
    values, value = np.unique(counts[scored > 0], return_inverse=True)
    up_to = np.bincount(value, weights=scored[scored > 0]).cumsum()  # scored tokens of this count or a smaller one
    goals = up_to[-1] * np.arange(1, TENTHS) / TENTHS
    cuts: Array = values[np.abs(up_to[:, None] - goals).argmin(0)]
    return cuts


class ClassSums:
    """Number of tokens and nats of every class, over all batches that were added; float64.

    Args:
        shards: what is scored.
        counts: of those shards.
        block_size: context length in tokens.
    """

    def __init__(self, shards: TokenShards, counts: TokenCounts, block_size: int) -> None:
        self._end_of_text = shards.tokenizer.end_of_text
        self._vocab_size = shards.tokenizer.vocab_size
        self._tenth = np.searchsorted(counts.cuts, counts.types)  # [V]
        begins = np.array([piece[:1].isspace() for piece in shards.tokenizer.token_bytes])
        self._word = np.where(begins, BEGINS, GOES_ON)  # [V]
        at_most = max(1, RARE * shards.manifest["splits"]["train"]["tokens"])
        self._rare = counts.bigrams[counts.bigram_counts <= at_most]
        starts = 2 ** np.arange(block_size.bit_length())
        self._bucket = np.searchsorted(starts, np.arange(1, block_size + 1), "right") - 1  # [T]
        self._names = {**NAMES, "position": [str(start) for start in starts]}
        self._tokens = {partition: np.zeros(len(names), np.int64) for partition, names in self._names.items()}
        self._nll = {partition: np.zeros(len(names)) for partition, names in self._names.items()}

    def add(self, inputs: Array, targets: Array, nll: Array) -> None:
        """Add a batch of windows that do not overlap.

        Args:
            inputs: tokens [B, T].
            targets: [B, T], negative where nothing is scored.
            nll: [B, T] in nats.
        """
        scored = targets >= 0
        for partition, classes in self._classes(inputs, targets, scored):
            size = len(self._names[partition])
            self._tokens[partition] += np.bincount(classes, minlength=size)
            self._nll[partition] += np.bincount(classes, weights=nll[scored], minlength=size)

    def result(self) -> dict[str, dict[str, dict[str, float]]]:
        """Plain containers for the run record: of every partition each class's `tokens` and `nll`, in nats."""
        return {
            partition: {
                name: {"tokens": tokens, "nll": nll}
                for name, tokens, nll in zip(
                    names, self._tokens[partition].tolist(), self._nll[partition].tolist(), strict=True
                )
            }
            for partition, names in self._names.items()
        }

    def _classes(self, inputs: Array, targets: Array, scored: Array) -> Iterator[tuple[str, Array]]:
        """The class of each scored token, in row order."""
        row, column = np.nonzero(scored)
        before, target = inputs[scored], targets[scored]
        yield "frequency", self._tenth[target]
        yield "word", np.where(before == self._end_of_text, BEGINS, self._word[target])
        bigrams = _bigrams(before, target, self._vocab_size)
        _, first = np.unique(row * self._vocab_size**2 + bigrams, return_index=True)
        recall = np.where(np.isin(bigrams, self._rare), RARE_HIT, OTHER_HIT)
        recall[first] = NO_HIT
        yield "recall", recall
        yield "position", self._bucket[column]


def _bigrams(first: Array, second: Array, vocab_size: int) -> Array:
    return first.astype(np.int64) * vocab_size + second
