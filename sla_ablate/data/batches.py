"""Token shards to tensors: training batches drawn by counter, validation windows document by document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from sla_ablate.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

IGNORE = -100
"""The target that counts for nothing, PyTorch's own `ignore_index`."""


class TrainingBatches(Dataset[torch.Tensor]):
    """Micro-batches of training tokens, a pure function of the seed and the optimizer step.

    The global batch of step s has `batch_size` rows. Row r is `tokens[o : o + block_size + 1]`, where
    o = x_r mod (len(tokens) - block_size) and x_r is the r-th 64-bit output of
    `numpy.random.Philox(key=seed, counter=[0, s, 0, 0])`. (The modulo favours small offsets by less than
    one part in 2^64 / len(tokens).) Inputs are a row's first `block_size` tokens, targets its last.

    The rows are cut into `world_size * micro_batches` equal runs: rank k's m-th micro-batch of the step is
    run k * micro_batches + m. Item i is micro-batch i mod `micro_batches` of step i div `micro_batches`, for
    any i >= 0; the data set has no end, so the sampler decides how many steps there are.

    Args:
        tokens: the shard, [N].
        seed: key of the generator, >= 0.
        batch_size: rows of the global batch, over all ranks and micro-batches.
        block_size: context length in tokens.
        micro_batches: gradient accumulation steps.
        rank, world_size: this data-parallel process and their number.

    Raises:
        InputError: the rows cannot be cut evenly, or the shard is shorter than one row.
    """

    def __init__(
        self,
        tokens: npt.NDArray[Any],
        seed: int,
        batch_size: int,
        block_size: int,
        micro_batches: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        runs = micro_batches * world_size
        if batch_size % runs:
            raise InputError(
                f"batch_size {batch_size} cannot be cut into {micro_batches} micro-batches on {world_size} "
                f"devices; choose a multiple of {runs}, such as {-(-batch_size // runs) * runs}"
            )
        if len(tokens) <= block_size:
            raise InputError(
                f"block_size {block_size} is too long for a training split of {len(tokens)} tokens; "
                f"choose at most {len(tokens) - 1}"
            )
        self._tokens = tokens
        self._seed = seed
        self._batch_size = batch_size
        self._block_size = block_size
        self._micro_batches = micro_batches
        self._rank = rank
        self._rows = batch_size // runs

    def __getitem__(self, index: int) -> torch.Tensor:
        """Micro-batch `index`, int64 [batch_size / (micro_batches * world_size), block_size + 1]."""
        step, micro_batch = divmod(index, self._micro_batches)
        draws = np.random.Philox(key=self._seed, counter=[0, step, 0, 0]).random_raw(self._batch_size)
        starts = (draws % np.uint64(len(self._tokens) - self._block_size)).astype(np.int64)
        first = (self._rank * self._micro_batches + micro_batch) * self._rows
        rows = starts[first : first + self._rows, None] + np.arange(self._block_size + 1)
        return torch.from_numpy(self._tokens[rows].astype(np.int64))


class DocumentWindows:
    """Validation windows in which every document token is a target exactly once.

    A document is scored as end of text followed by its tokens, in windows of at most `block_size` inputs. Its
    first window starts from end of text and scores all its targets, each later one starts `stride` tokens after
    the one before and scores those that are new: a token beyond the first window is scored given the last
    `block_size - stride + 1` to `block_size` tokens before it. The end of text after a document is not scored.
    Windows are sorted by length, longest first, so that batches need little padding.

    Args:
        tokens: the shard, [N].
        documents: `TokenShards.documents` of that shard; `start` and `tokens` are used.
        end_of_text: the id that starts a document, also the input on padding.
        block_size: context length in tokens.
        stride: tokens from one window to the next, 1 to `block_size`; None: `block_size`, windows do not overlap.
        rolling: fill up the last of a document's windows, if it has several, with the tokens before it, which are
            read and not scored: the windows of lm-evaluation-harness's `loglikelihood_rolling`.

    Raises:
        InputError: the stride is out of range.
    """

    def __init__(
        self,
        tokens: npt.NDArray[Any],
        documents: pd.DataFrame,
        end_of_text: int,
        block_size: int,
        stride: int | None = None,
        rolling: bool = False,
    ) -> None:
        stride = block_size if stride is None else stride
        if not 1 <= stride <= block_size:
            raise InputError(f"stride {stride} is out of range; choose 1 to {block_size}, the context length")
        overlap = block_size - stride
        n_tokens = documents["tokens"].to_numpy(np.int64)
        n_windows = np.maximum(-(-(n_tokens - overlap) // stride), n_tokens > 0)
        document = np.repeat(np.arange(len(n_tokens)), n_windows)
        window = np.arange(len(document)) - np.repeat(n_windows.cumsum() - n_windows, n_windows)
        later = window > 0
        first_scored = np.where(later, overlap + window * stride, 0)
        scored = np.minimum(n_tokens[document] - first_scored, np.where(later, stride, block_size))
        context = np.where(later, block_size - scored if rolling else overlap, 0)
        start = documents["start"].to_numpy(np.int64)[document] + first_scored - context
        length = context + scored
        order = np.argsort(-length, kind="stable")
        self._tokens = tokens
        self._end_of_text = end_of_text
        self._document = document[order]
        self._start = start[order]
        self._is_first = (window == 0)[order]
        self._context = context[order]
        self._length = length[order]

    def __len__(self) -> int:
        """Number of windows."""
        return len(self._document)

    def batches(self, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield (inputs [B, T], targets [B, T], document [B]), all int64.

        T is the batch's longest window; targets are -100 on padding and on tokens that are not scored; `document`
        is the row of the documents' table. The last batch may have fewer rows.
        """
        for first in range(0, len(self), batch_size):
            rows = slice(first, first + batch_size)
            position = np.arange(self._length[first])  # [T]
            is_token = position < self._length[rows, None]  # [B, T]
            index = np.where(is_token, self._start[rows, None] + position, 0)
            read = self._tokens[index].astype(np.int64)
            inputs = np.full_like(read, self._end_of_text)
            inputs[:, 1:] = np.where(is_token[:, 1:], read[:, :-1], self._end_of_text)
            inputs[:, 0] = np.where(self._is_first[rows], self._end_of_text, self._tokens[self._start[rows] - 1])
            targets = np.where(is_token & (position >= self._context[rows, None]), read, IGNORE)
            yield torch.from_numpy(inputs), torch.from_numpy(targets), torch.from_numpy(self._document[rows])
