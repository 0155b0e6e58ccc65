"""What the benchmarks of the model share: two models to compare with, and the patterns to compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
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


class PlainGPT2(nn.Module):
    """A GPT-2 as one writes it down: PyTorch's modules, its attention and its loss, all logits at once."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.n_embd)
        self.positions = nn.Embedding(config.block_size, config.n_embd)
        self.layers = nn.ModuleList(PlainLayer(config.n_embd, config.n_head) for _ in range(config.n_layer))
        self.norm = nn.LayerNorm(config.n_embd)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of tokens and targets [B, T]."""
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        for layer in self.layers:
            x = layer(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


class PlainLayer(nn.Module):
    """One layer of `PlainGPT2`."""

    def __init__(self, C: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.ln_1, self.ln_2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.qkv, self.out = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.up, self.down = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, C]."""
        B, T, C = x.shape
        q, k, v = self.qkv(self.ln_1(x)).view(B, T, 3, self.n_head, C // self.n_head).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(B, T, C))
        out: Tensor = x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh"))
        return out
