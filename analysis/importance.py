"""How much the loss depends on a head: its gradient, its removal, and a skip head's return to its own layer.

Shapes as in `analysis.diversity`; differences of loss are in nats per token, positive if the change does harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from analysis.diversity.metric import HeadMetric, Setting
from analysis.diversity.roles import role_means
from sla_ablate.model.capture import capture
from sla_ablate.model.evaluating import evaluating
from sla_ablate.model.gpt import GPT
from sla_ablate.patterns import SkipPattern
from sla_ablate.patterns.skip_pattern import Mask

if TYPE_CHECKING:
    from sla_ablate.model.transformer import Block


class HeadImportance(HeadMetric):
    """Mean over tokens of |o_hᵀ ∂L/∂o_h|, L the summed loss in nats (Michel et al. 2019, arXiv 1905.10650)."""

    shapes: ClassVar = {"importance": "LH"}
    total: Tensor
    tokens: Tensor

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.add_sum("total", self.n_layer, self.n_head)
        self.add_sum("tokens", dtype=torch.int64)

    def update(self, outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Add a batch: head outputs and their gradients by layer, [B, H, T, d]."""
        self.tokens += outputs[0].shape[0] * outputs[0].shape[2]
        for layer, (o, g) in enumerate(zip(outputs, gradients, strict=True)):
            self.total[layer] += torch.linalg.vecdot(o.double(), g.double()).abs().sum((0, 2))

    def compute(self) -> dict[str, Tensor]:
        """`importance` [L, H], and its means over own and skip heads [L]."""
        importance = self.total / self.tokens
        means = role_means(importance, self.skip.to(importance.device))
        return {"importance": importance, **{f"importance_{role}": mean for role, mean in means.items()}}


def add_importance(metric: HeadImportance, model: GPT, tokens: Tensor, targets: Tensor) -> None:
    """Add a model's heads on a batch; `tokens` and `targets` [B, T] as in `GPT.forward`."""
    with evaluating(model), torch.enable_grad(), capture(model) as captured:
        loss = model(tokens, targets) * targets.ne(-100).sum()
    outputs = [call.outputs for call in captured.calls]
    metric.update(outputs, torch.autograd.grad(loss, outputs))


@contextmanager
def without_heads(model: GPT, heads: Mask) -> Iterator[None]:
    """The model as if the outputs of `heads` [L, H] were 0: their rows of W_O are, until the end of the `with`."""
    weights = [block.attn.c_proj.weight for block in cast("Iterable[Block]", model.h)]
    kept = [weight.detach().clone() if heads[layer].any() else None for layer, weight in enumerate(weights)]
    with torch.no_grad():
        for weight, row in zip(weights, heads, strict=True):
            weight.unflatten(1, (len(row), -1))[:, row] = 0
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, original in zip(weights, kept, strict=True):
                if original is not None:
                    weight.copy_(original)


def rerouted(model: GPT, heads: Mask) -> GPT:
    """The same weights, but `heads` [L, H] read the keys and values of their own layer.

    A layer's keys and values that no head read in training have never been trained, so what this measures is how
    much a head depends on its source, not how good an ordinary head would be in its place.
    """
    own = np.arange(len(heads))[:, None]
    tables = model.pattern.key_source, model.pattern.value_source
    with torch.device("meta"):  # no weights of its own, no random numbers drawn
        twin = GPT(model.config, SkipPattern(*(np.where(heads, own, table) for table in tables)))
    twin.load_state_dict(model.state_dict(), assign=True)
    return twin.train(model.training)


class KnockOut(HeadMetric):
    """Change of the loss, in nats per token, when heads are removed or rerouted at evaluation."""

    shapes: ClassVar = {"knock_out": "LH", "reroute": "LH"}
    loss: Tensor
    one: Tensor
    role: Tensor
    one_rerouted: Tensor
    all_rerouted: Tensor
    tokens: Tensor

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        L, H = self.n_layer, self.n_head
        self.add_sum("loss")
        self.add_sum("one", L, H)
        self.add_sum("role", 2, L)
        self.add_sum("one_rerouted", L, H)
        self.add_sum("all_rerouted", L)
        self.add_sum("tokens", dtype=torch.int64)

    def update(self, model: GPT, tokens: Tensor, targets: Tensor) -> None:
        """Add a batch, read once for each head and three times for each layer; arguments as in `GPT.forward`."""
        L, H = self.n_layer, self.n_head
        skip: Mask = self.skip.numpy()

        def loss(variant: GPT) -> Tensor:
            return variant.nll(tokens, targets).double().sum()

        def without(heads: Mask) -> Tensor:
            with without_heads(model, heads):
                return loss(model)

        with evaluating(model):
            self.loss += loss(model)
            self.tokens += targets.ne(-100).sum()
            for layer in range(L):
                here: Mask = np.arange(L)[:, None] == layer
                for role, heads in enumerate((here & ~skip, here & skip)):
                    if heads.any():
                        self.role[role, layer] += without(heads)
                if skip[layer].any():
                    self.all_rerouted[layer] += loss(rerouted(model, here & skip))
                for head in range(H):
                    only: Mask = here & (np.arange(H) == head)
                    self.one[layer, head] += without(only)
                    if skip[layer, head]:
                        self.one_rerouted[layer, head] += loss(rerouted(model, only))

    def compute(self) -> dict[str, Tensor]:
        """Each head alone, [L, H], and all heads of a layer in one role together, [L]; NaN where there are none.

        `knock_out`, `knock_out_all_own` and `knock_out_all_skip` for removal, `reroute` and `reroute_all_skip` for skip
        heads that read their own layer.
        """
        skip = self.skip.to(self.loss.device)

        def change(loss: Tensor, exists: Tensor | None = None) -> Tensor:
            difference = (loss - self.loss) / self.tokens
            return difference if exists is None else difference.where(exists, torch.nan)

        return {
            "knock_out": change(self.one),
            "knock_out_all_own": change(self.role[0], (~skip).any(1)),
            "knock_out_all_skip": change(self.role[1], skip.any(1)),
            "reroute": change(self.one_rerouted, skip),
            "reroute_all_skip": change(self.all_rerouted, skip.any(1)),
        }
