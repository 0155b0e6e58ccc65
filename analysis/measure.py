"""All that is measured of one model, on windows of the validation split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from analysis.diversity.head_diversity import measure_heads
from analysis.diversity.metric import Setting
from analysis.diversity.metrics import own_metrics
from analysis.diversity.roles import skip_heads
from analysis.importance import HeadImportance, KnockOut, add_importance
from analysis.loss_by_position import position_nll
from analysis.perplexity import Totals
from analysis.tidy import tidy
from sla_ablate.data.shards import TokenShards
from sla_ablate.model.gpt import GPT
from sla_ablate.training.evaluation import document_nll

N_MIN = 16
"""Query rows that see fewer keys do not count, unless a window is shorter."""
KNOCK_OUT_TOKENS = 2048
"""The model reads them once for each head and up to three times for each layer, and again for each skip head."""
BATCH_TOKENS = 2048
STRIDED = ("nats_per_token", "perplexity", "word_perplexity", "bits_per_byte")
"""What overlapping windows give another value of."""


@dataclass(frozen=True)
class Extent:
    """How much of the validation split was read, and how."""

    tokens: int
    knock_out_tokens: int
    context_length: int
    n_min: int
    query_rows: int
    stride: int | None


def measure(
    model: GPT,
    shards: TokenShards,
    tokens: int,
    query_rows: int,
    stride: int | None = None,
    metrics: Sequence[str] = (),
    scored: int | None = None,
) -> tuple[pd.DataFrame, dict[str, int | None]]:
    """The heads' diversity, their importance and what it costs to remove or reroute them.

    Args:
        model: whose heads.
        shards: whose validation split.
        tokens: how many of its tokens to read, in whole windows, at least one.
        query_rows: rows a window from which pairwise divergence is estimated; all if there are no more.
        stride: of windows in which the split is scored again; None: it is not.
        metrics: names of metrics of the user's own.
        scored: how many of the split's tokens count where it is scored; see `TokenShards.scored`.

    Returns:
        The table of `tidy`, and the `Extent` as a dict.
    """
    sample = windows(shards.validation, model.config.block_size, tokens).to(model.device)
    few = sample[:: -(-sample[:, 1:].numel() // KNOCK_OUT_TOKENS)]
    T = sample.shape[1] - 1
    extent = Extent(sample[:, 1:].numel(), few[:, 1:].numel(), T, min(N_MIN, T), query_rows, stride)

    own = own_metrics(metrics)
    arrays = measure_heads(model, sample[:, :-1], extent.n_min, query_rows, own)
    skip = skip_heads(model.pattern)
    del arrays["is_skip"]  # the column `role` says it
    setting = Setting(model.pattern, model.config.head_size)
    importance = HeadImportance(setting).to(sample.device)
    for batch in _batches(sample):
        add_importance(importance, model, *batch)
    knock_out = KnockOut(setting).to(sample.device)
    for batch in _batches(few):
        knock_out.update(model, *batch)
    effects = {
        # In the table a removal is one of a head, or else of all heads of the row's role.
        name.replace("_all", "").replace("reroute", "rerouted"): value
        for name, value in knock_out.compute().items()
    }
    arrays |= {name: value.cpu().numpy() for name, value in (importance.compute() | effects).items()}
    if (shards.scored(scored)["tokens"] >= model.config.block_size).any():
        by_position = position_nll(model, shards, tokens=scored)
        arrays["nll_by_position"] = np.array(by_position["nats_per_token"])
        if (score := by_position["in_context_score"]) is not None:
            arrays["in_context_score"] = np.array(score)
    if stride is not None:
        totals = Totals.of(document_nll(model, shards, stride, tokens=scored))
        arrays |= {f"strided_{rate}": np.array(getattr(totals, rate)) for rate in STRIDED}
    return tidy(arrays, skip, own), asdict(extent)


def windows(tokens: npt.NDArray[Any], length: int, total: int) -> Tensor:
    """Windows [B, length + 1] of int64, evenly spaced over `tokens` [N], with about `total` targets.

    As in training, a window may begin in mid-document and hold an end of text. A stream that is shorter than one
    window is one.
    """
    length = min(length, len(tokens) - 1)
    count = max(1, min(total, len(tokens) - 1) // length)
    starts = np.linspace(0, len(tokens) - length - 1, count).astype(np.int64)
    return torch.from_numpy(tokens[starts[:, None] + np.arange(length + 1)].astype(np.int64))


def _batches(sample: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets, some windows at a time."""
    for part in sample.split(max(1, BATCH_TOKENS // (sample.shape[1] - 1))):
        yield part[:, :-1], part[:, 1:]
