"""Validation: the negative log-likelihood of every document, summed in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from sla_ablate.data.batches import DocumentWindows
from sla_ablate.data.classes import ClassSums
from sla_ablate.data.shards import TokenShards
from sla_ablate.model.evaluating import evaluating
from sla_ablate.model.gpt import GPT

TOKENS_PER_BATCH = 8192


def document_nll(
    model: GPT,
    shards: TokenShards,
    stride: int | None = None,
    rolling: bool = False,
    tokens: int | None = None,
    sums: ClassSums | None = None,
) -> dict[str, Any]:
    """Score the validation split, or part of it, in float32, whatever precision the model was trained in.

    Each document is scored by itself, in windows of the model's block size, the first of which starts from the
    end-of-text token; every token of the document counts once.

    Args:
        model: the model.
        shards: whose validation split.
        stride: tokens from one window to the next; None: the block size, windows do not overlap.
        rolling: fill up the last window as lm-evaluation-harness does; see `DocumentWindows`.
        tokens: how many are scored; see `TokenShards.scored`.
        sums: to which every token's nll is added, where windows do not overlap.

    Returns:
        Plain containers for the run record: the windows' `context_length`, `stride` and `start_token`, and per
        document its id, `nll` (sum over its scored tokens, in nats), and their `tokens`, `bytes` and `words`.

    Raises:
        InputError: the stride is not 1 to the block size.
    """
    documents = shards.scored(tokens)
    block_size = model.config.block_size
    end_of_text = shards.tokenizer.end_of_text
    windows = DocumentWindows(shards.validation, documents, end_of_text, block_size, stride, rolling)
    total = torch.zeros(len(documents), dtype=torch.float64)
    for inputs, targets, document, nll in window_nll(model, windows):
        total.index_add_(0, document, nll.sum(1))
        if sums is not None:
            sums.add(inputs.numpy(), targets.numpy(), nll.numpy())
    return {
        "context_length": block_size,
        "stride": block_size if stride is None else stride,
        "start_token": shards.tokenizer.end_of_text_token,
        "documents": documents["id"].tolist(),
        "nll": total.tolist(),
        **{column: documents[column].tolist() for column in ("tokens", "bytes", "words")},
    }


def window_nll(model: GPT, windows: DocumentWindows) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Yield what `DocumentWindows.batches` does and the nll, float64 [B, T] in nats, 0 where nothing is scored."""
    device = model.device
    with evaluating(model):
        for inputs, targets, document in windows.batches(max(1, TOKENS_PER_BATCH // model.config.block_size)):
            nll = model.nll(inputs.to(device), targets.to(device))
            yield inputs, targets, document, nll.cpu().double()
