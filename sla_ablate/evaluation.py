"""Validation: the negative log-likelihood of every document, summed in float64."""

from __future__ import annotations

from typing import Any

import torch

from sla_ablate.data.batches import DocumentWindows
from sla_ablate.data.shards import TokenShards
from sla_ablate.model.evaluating import evaluating
from sla_ablate.model.gpt import GPT

TOKENS_PER_BATCH = 8192


@torch.no_grad()
def document_nll(model: GPT, shards: TokenShards, rolling: bool = False) -> dict[str, Any]:
    """Score the whole validation split in float32, whatever precision the model was trained in.

    Each document is scored by itself, in non-overlapping windows of the model's block size, the first of
    which starts from the end-of-text token; every token of the document counts once.

    Args:
        model: the model.
        shards: whose validation split.
        rolling: overlap windows as lm-evaluation-harness does; see `DocumentWindows`.

    Returns:
        Plain containers for the run record: the windows' `context_length` and `start_token`, and per document
        its id, `nll` (sum over its tokens, in nats), `tokens`, `bytes` and `words`.
    """
    documents = shards.documents("validation")
    block_size = model.config.block_size
    windows = DocumentWindows(shards.validation, documents, shards.tokenizer.end_of_text, block_size, rolling)
    device = model.wte.weight.device
    total = torch.zeros(len(documents), dtype=torch.float64)
    with evaluating(model):
        for inputs, targets, document in windows.batches(max(1, TOKENS_PER_BATCH // block_size)):
            nll = model.nll(inputs.to(device), targets.to(device))
            total.index_add_(0, document, nll.double().sum(1).cpu())
    return {
        "context_length": block_size,
        "stride": block_size,
        "start_token": "<|endoftext|>",
        "documents": documents["id"].tolist(),
        "nll": total.tolist(),
        **{column: documents[column].tolist() for column in ("tokens", "bytes", "words")},
    }
