"""Validation while a run trains."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lightning as L
import torch

from sla_ablate.data.classes import ClassSums
from sla_ablate.data.shards import TokenShards
from sla_ablate.model.gpt import GPT
from sla_ablate.text.telling import waiting
from sla_ablate.training.callbacks.metrics import Metrics
from sla_ablate.training.divergence import check_loss
from sla_ablate.training.evaluation import document_nll
from sla_ablate.training.module import LanguageModel
from sla_ablate.training.ranks import gather
from sla_ablate.training.strategies import whole


class Validation(L.Callback):
    """Appends the validation loss (nats per token), perplexity and bits per byte every so many steps and at the end.

    On several devices the first validates, alone. A run whose validation loss is not finite is ended.

    Args:
        metrics: where the lines go.
        say: shows a line to people.
        shards: whose validation split.
        every: steps between validations while training; 0: none.
        tokens: how many of its tokens are scored; see `TokenShards.scored`.
        save_best: called with the model whenever its validation loss is the lowest so far.
    """

    def __init__(
        self,
        metrics: Metrics,
        say: Callable[[str], None],
        shards: TokenShards,
        every: int,
        tokens: int | None = None,
        save_best: Callable[[GPT], None] | None = None,
    ) -> None:
        self.metrics = metrics
        self.say = say
        self.shards = shards
        self.every = every
        self.tokens = tokens
        self.save_best = save_best
        self._lowest = math.inf

    def state_dict(self) -> dict[str, Any]:
        """The lowest loss so far."""
        return {"lowest": self._lowest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from an earlier attempt's."""
        self._lowest = state_dict["lowest"]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Validate when an optimizer step has just made the count a multiple of `every`; the last is not ours."""
        step = trainer.global_step
        between = (batch_idx + 1) % trainer.accumulate_grad_batches > 0
        if between or not self.every or step % self.every or step == trainer.max_steps:
            return
        assert isinstance(pl_module, LanguageModel)
        model = whole(pl_module.model)
        with waiting("validating", self.say):
            loss, *_ = gather(self.validate(model, step)[0] if trainer.is_global_zero else 0.0)
        check_loss("validation", loss, step)
        self.say(f"step {step}/{trainer.max_steps}  validation loss {loss:.4f}")

    def validate(self, model: GPT, step: int, sums: ClassSums | None = None) -> tuple[float, dict[str, Any]]:
        """The loss of what is scored, and `document_nll`'s result that it comes from."""
        result = document_nll(model, self.shards, tokens=self.tokens, sums=sums)
        loss = sum(result["nll"]) / sum(result["tokens"])
        self.metrics.append(
            step=step,
            validation_loss=loss,
            validation_perplexity=torch.tensor(loss, dtype=torch.float64).exp().item(),  # math.exp raises OverflowError
            validation_bits_per_byte=sum(result["nll"]) / math.log(2) / sum(result["bytes"]),
        )
        if loss < self._lowest:
            self._lowest = loss
            if self.save_best is not None:
                self.save_best(model)
        return loss, result
