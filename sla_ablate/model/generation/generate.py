"""Continuing sequences of tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from sla_ablate.errors import InputError
from sla_ablate.model.cpu.linear import linear
from sla_ablate.model.evaluating import evaluating
from sla_ablate.model.generation.cache import KVCache
from sla_ablate.model.transformer import Transformer

Prompts = Tensor | list[Tensor]


def generate(
    model: Transformer,
    tokens: Prompts,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    stop_token: int | None = None,
) -> Prompts:
    """Continue sequences by drawing one token after the other, with a KV cache and without dropout.

    A context that has outgrown the block size is cut to its latest block_size // 2 tokens, which are read anew
    from position 0; so is a prompt.

    Args:
        model: the model.
        tokens: prompts of one length, [B, T], or of any lengths, a list of [T]. Each row's probabilities are those
            that it would have alone, to rounding.
        max_new_tokens: how many to add to each.
        temperature: divides the logits; 0 always takes the likeliest token.
        top_k: draw among the k likeliest only.
        top_p: draw among the likeliest only, as few of them as have this probability together.
        generator: of the random numbers; torch's global one if None.
        stop_token: a sequence that has drawn it goes on with nothing else; ends when all have.

    Returns:
        Prompts and continuations: [B, T + new], or a list of [T + new]; new is at most max_new_tokens.

    Raises:
        InputError: an argument is out of its range, a prompt is empty, a token is none of the vocabulary, or the
            model's logits are not finite.
    """
    _check_options(max_new_tokens, temperature, top_k, top_p)
    prompts = _checked_prompts(tokens, model)
    if stop_token is not None and not 0 <= stop_token < model.config.vocab_size:
        raise InputError(f"stop_token={stop_token} is none of the vocabulary's, 0 to {model.config.vocab_size - 1}")
    device = model.device
    width = max(len(prompt) for prompt in prompts)
    # Right-aligned, so that the next token of every row is in the same column.
    out = torch.zeros(len(prompts), width + max_new_tokens, dtype=torch.long, device=device)
    for row, prompt in zip(out, prompts, strict=True):
        row[width - len(prompt) : width] = prompt
    with torch.inference_mode(), evaluating(model):
        reader = _Reader(model, [len(prompt) for prompt in prompts], max_new_tokens)
        stopped = torch.zeros(len(out), dtype=torch.bool, device=device)
        for column in range(width, out.shape[1]):
            logits = reader.logits(out[:, :column])
            if not logits.isfinite().all():
                raise InputError("the model's logits are not finite, so there is nothing to draw from; did it diverge?")
            new = sample(logits, temperature, top_k, top_p, generator)
            if stop_token is not None:
                new = new.masked_fill(stopped, stop_token)
                stopped |= new == stop_token
            out[:, column] = new
            if stop_token is not None and stopped.all():
                out = out[:, : column + 1]
                break
    if isinstance(tokens, Tensor):
        return out
    return [row[width - len(prompt) :].clone() for row, prompt in zip(out, prompts, strict=True)]


def sample(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One token [B] drawn from logits [B, V]; see `generate`."""
    if temperature < torch.finfo(torch.float32).tiny:  # what is less would be 0 beside the logits
        return logits.argmax(-1)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    # At most 0 first, so that a low temperature makes no infinity of the largest.
    logits = (logits - logits.amax(-1, keepdim=True)) / temperature
    if top_k is not None:
        likeliest = logits.topk(min(top_k, logits.shape[-1]))
        logits = torch.full_like(logits, -torch.inf).scatter(1, likeliest.indices, likeliest.values)
    if top_p is not None:
        p, order = logits.softmax(-1).sort(descending=True)
        likelier = p.cumsum(-1) - p  # of the tokens before each
        logits = logits.masked_fill((likelier >= top_p).scatter(1, order, likelier >= top_p), -torch.inf)
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]


class _Reader:
    """Reads growing sequences [B, columns], whose last `lengths[b]` columns are row b's context."""

    def __init__(self, model: Transformer, lengths: list[int], steps: int) -> None:
        self.model = model
        self.lengths = lengths
        self.steps = steps
        self.cache: KVCache | None = None

    def logits(self, tokens: Tensor) -> Tensor:
        """[B, V] after sequences one column longer than at the last call."""
        block_size = self.model.config.block_size
        if self.cache is not None:
            self.lengths = [n + 1 for n in self.lengths]
            if max(self.lengths) <= block_size:
                return self._read(tokens[:, -1:], self.cache)
        self.lengths = [n if n <= block_size else max(1, block_size // 2) for n in self.lengths]
        longest = max(self.lengths)
        padding = torch.tensor([longest - n for n in self.lengths], device=tokens.device)
        capacity = min(block_size, longest + self.steps)
        self.cache = self.model.empty_cache(len(tokens), capacity, padding if padding.any() else None)
        return self._read(tokens[:, -longest:], self.cache)

    def _read(self, tokens: Tensor, cache: KVCache) -> Tensor:
        return linear(self.model.hidden_states(tokens, cache, last_only=True)[:, -1], self.model.wte.weight)


def _check_options(max_new_tokens: int, temperature: float, top_k: int | None, top_p: float | None) -> None:
    if max_new_tokens < 0:
        raise InputError(f"max_new_tokens={max_new_tokens} is not possible; choose 0 or more")
    if not temperature >= 0:
        raise InputError(f"temperature={temperature} is not possible; choose 0 (the likeliest token) or more")
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k={top_k} is not possible; choose 1 or more")
    if top_p is not None and not 0 < top_p <= 1:
        raise InputError(f"top_p={top_p} is not possible; choose more than 0 and at most 1")


def _checked_prompts(tokens: Prompts, model: Transformer) -> list[Tensor]:
    if isinstance(tokens, Tensor) and tokens.dim() != 2:
        raise InputError(f"tokens of shape {tuple(tokens.shape)} are no batch; give [B, T] or a list of [T]")
    prompts = [torch.as_tensor(prompt) for prompt in tokens]
    for prompt in prompts:
        if prompt.is_floating_point():
            raise InputError(f"a prompt is of {prompt.dtype}; tokens are whole numbers")
    vocab_size = model.config.vocab_size
    for i, prompt in enumerate(prompts):
        if prompt.dim() != 1 or not len(prompt):
            raise InputError(f"prompt {i} has shape {tuple(prompt.shape)}; give one token or more, [T]")
        for token in prompt[(prompt < 0) | (prompt >= vocab_size)][:1].tolist():
            raise InputError(f"prompt {i} has token {token}; the vocabulary's are 0 to {vocab_size - 1}")
    if not prompts:
        raise InputError("there is no prompt; give [B, T] or a list of [T]")
    return prompts
