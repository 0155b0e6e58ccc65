"""What the benchmarks of the model share: Hugging Face's model to compare with, and the patterns to compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from sla_ablate import GPTConfig, SkipPattern

PATTERNS: dict[str, Callable[[int, int], SkipPattern]] = {
    "baseline": SkipPattern.baseline,
    # Three quarters of depth and heads, as the paper's 9 of 12.
    "SLA": lambda L, H: SkipPattern.skip_layer(L, H, round(0.75 * L), round(0.75 * H)),
    "CLA": SkipPattern.cross_layer,
    "YOCO": SkipPattern.yoco,
}


def hugging_face(config: GPTConfig) -> Any:
    """Hugging Face's model of the same shape, in training mode, without dropout; always the same weights."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size, n_positions=config.block_size, n_embd=config.n_embd,
            n_layer=config.n_layer, n_head=config.n_head, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            bos_token_id=0, eos_token_id=None, pad_token_id=0, use_cache=False,
        )
    ).train()  # fmt: skip
