"""Loss by position in the context, and what the model learns from a long one."""

from __future__ import annotations

from typing import Any

import numpy as np

from sla_ablate.data.batches import DocumentWindows
from sla_ablate.data.shards import TokenShards
from sla_ablate.errors import InputError
from sla_ablate.model.gpt import GPT
from sla_ablate.training.evaluation import window_nll

EARLY, LATE = 50, 500


def position_nll(
    model: GPT, shards: TokenShards, context_length: int | None = None, tokens: int | None = None
) -> dict[str, Any]:
    """Loss by position: the first T tokens of every scored document of which as many are scored, in one pass.

    Position i, from 1 to T, is a document's i-th token, predicted from the end-of-text token and the i - 1 tokens
    before it. So each position is measured on the same documents, and equal T give equal documents for any model.

    Args:
        model: the model.
        shards: whose validation split.
        context_length: T; None: the model's block size.
        tokens: how many are scored; see `TokenShards.scored`.

    Returns:
        Plain containers: `context_length` and `start_token`; the ids of the `documents`; `positions`, the first
        position 2^k of each bucket [2^k, 2^(k+1)), the last of which ends at T; the `tokens` in each bucket of one
        document; `nll`, a list for each document of the sums over its buckets, in nats; `nats_per_token` of each
        bucket over all documents; `in_context`, for each document the nll of position 500 minus that of position
        50; `in_context_score`, its mean (Olsson et al. 2022, arXiv 2209.11895: the more negative, the more is
        learnt from the context). The last two are None where T is below 500.

    Raises:
        InputError: T is out of range, or no document has T tokens.
    """
    T = model.config.block_size if context_length is None else context_length
    if not 1 <= T <= model.config.block_size:
        raise InputError(
            f"context_length {T} is out of range; choose 1 to {model.config.block_size}, the model's block size"
        )
    table = shards.scored(tokens)
    documents = table[table["tokens"] >= T]
    if not len(documents):
        raise InputError(
            f"no validation document has {T} tokens; choose a context_length of at most {table['tokens'].max()}"
        )
    windows = DocumentWindows(shards.validation, documents.assign(tokens=T), shards.tokenizer.end_of_text, T)
    starts = 2 ** np.arange(T.bit_length())
    nll = np.empty((len(documents), len(starts)))
    in_context = np.empty(len(documents))
    for _, _, document, batch in window_nll(model, windows):
        losses = batch.numpy()  # [B, T]
        nll[document] = np.add.reduceat(losses, starts - 1, axis=1)
        if T >= LATE:
            in_context[document] = losses[:, LATE - 1] - losses[:, EARLY - 1]
    widths = np.diff(starts, append=T + 1)
    return {
        "context_length": T,
        "start_token": shards.tokenizer.end_of_text_token,
        "documents": documents["id"].tolist(),
        "positions": starts.tolist(),
        "tokens": widths.tolist(),
        "nll": nll.tolist(),
        "nats_per_token": (nll.mean(0) / widths).tolist(),
        "in_context": in_context.tolist() if T >= LATE else None,
        "in_context_score": float(in_context.mean()) if T >= LATE else None,
    }
