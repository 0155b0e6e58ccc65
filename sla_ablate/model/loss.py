"""Cross-entropy of a language model's output layer without ever holding all its logits.

For 8,192 tokens and GPT-2's vocabulary the logits take 1.6 GB in float32, and their gradient as much again. Here
the output layer and the loss are computed together, a block of tokens at a time, and so is their gradient,
already in the forward pass: it needs the same probabilities.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from sla_ablate.errors import InputError
from sla_ablate.model.cpu.linear import multiply, multiply_transposed

IGNORE = -100
"""Targets that count for nothing: padding."""
BLOCK = {"cpu": 512, "cuda": 4096}
"""Tokens whose logits exist at one time: few stay in a processor's cache, many keep a GPU busy."""


def token_nll(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood of every target, for evaluation: no gradient is recorded.

    Args:
        hidden: final hidden states [N, C].
        weight: output layer [V, C].
        targets: [N], `IGNORE` where nothing is to be predicted.

    Returns:
        [N] in nats, float32 (float64 for float64 hidden states); 0 where ignored.

    Raises:
        InputError: a target is none of the vocabulary's. (On a GPU that is an assertion of the device's.)
    """
    _check_range(targets, len(weight))
    with torch.no_grad():
        size = _block_size(hidden)
        blocks = zip(hidden.split(size), targets.split(size), strict=True)
        return torch.cat([F.nll_loss(_log_probabilities(h, weight), t, reduction="none") for h, t in blocks])


def mean_nll(hidden: Tensor, weight: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over the targets that are not `IGNORE`, with gradient; equals `F.cross_entropy`.

    Args:
        hidden: final hidden states [N, C].
        weight: output layer [V, C], of the same dtype.
        targets: [N].
        label_smoothing: weight of the uniform distribution that is mixed into the targets, in [0, 1).

    Returns:
        Scalar in nats, float32 (float64 for float64 hidden states).

    Raises:
        InputError: a target is none of the vocabulary's. (On a GPU that is an assertion of the device's.)
    """
    _check_range(targets, len(weight))
    loss: Tensor = _MeanNLL.apply(hidden, weight, targets, label_smoothing)
    return loss


def _check_range(targets: Tensor, vocab_size: int) -> None:
    if targets.device.type != "cpu":  # reading a value would make a GPU wait
        return
    for target in targets[(targets != IGNORE) & ((targets < 0) | (targets >= vocab_size))][:1].tolist():
        raise InputError(f"target {target} is none of the vocabulary's, 0 to {vocab_size - 1}, nor {IGNORE} for none")


def _block_size(hidden: Tensor) -> int:
    return BLOCK.get(hidden.device.type, BLOCK["cpu"])


def _log_probabilities(hidden: Tensor, weight: Tensor) -> Tensor:
    """[N, V], at least float32."""
    logits = multiply(hidden, weight)
    return F.log_softmax(logits, -1, dtype=torch.promote_types(logits.dtype, torch.float32))


class _MeanNLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        scored = targets != IGNORE
        count = scored.sum().clamp(min=1)
        wide = torch.promote_types(hidden.dtype, torch.float32)
        total = torch.zeros((), dtype=wide, device=hidden.device)
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if needs_weight else None
        vocab_size = len(weight)
        size = _block_size(hidden)
        for i in range(0, len(hidden), size):
            h, keep = hidden[i : i + size], scored[i : i + size, None]
            target = torch.where(keep, targets[i : i + size, None], 0)
            logits = multiply(h, weight)
            p = logits.softmax(-1, dtype=wide)
            # log Σ exp: the largest probability is exp(0) / Σ exp(logit - max), at least 1 / V, so no underflow.
            log_sum = logits.amax(1, keepdim=True).to(wide) - p.amax(1, keepdim=True).log()
            nll = log_sum - (1 - smoothing) * logits.gather(1, target).to(wide)
            if smoothing:
                nll -= smoothing * logits.mean(1, keepdim=True, dtype=wide)
            total += (nll * keep).sum()
            if grad_hidden is None and grad_weight is None:
                continue
            # d nll / d logits = p - smoothed target; 1 / count follows on the small products.
            grad = p.to(hidden.dtype)
            grad.scatter_add_(1, target, torch.full_like(target, smoothing - 1, dtype=grad.dtype))
            if smoothing:
                grad -= smoothing / vocab_size
            if grad_hidden is not None:
                grad_hidden[i : i + size] = multiply(grad, weight.T) * keep
            if grad_weight is not None:
                grad_weight += multiply_transposed(grad, h * keep)
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.count, ctx.dtypes = count, (hidden.dtype, weight.dtype)
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        factor = grad_loss / ctx.count
        grad_hidden, grad_weight = (
            None if grad is None else (grad * factor).to(dtype)
            for grad, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return grad_hidden, grad_weight, None, None
