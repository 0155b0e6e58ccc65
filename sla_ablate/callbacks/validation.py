"""Validation while a run trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L

from sla_ablate.callbacks.progress import append_line
from sla_ablate.data.shards import TokenShards
from sla_ablate.evaluation import document_nll
from sla_ablate.training import LanguageModel


class Validation(L.Callback):
    """Every `every` steps, append the validation loss (nats per token) to `metrics.jsonl`."""

    def __init__(self, metrics: Path, say: Callable[[str], None], shards: TokenShards, every: int) -> None:
        self.metrics = metrics
        self.say = say
        self.shards = shards
        self.every = every

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Validate when an optimizer step has just made the count a multiple of `every`."""
        step = trainer.global_step
        if (batch_idx + 1) % trainer.accumulate_grad_batches or step % self.every or step == trainer.max_steps:
            return
        assert isinstance(pl_module, LanguageModel)
        result = document_nll(pl_module.model, self.shards)
        nll = sum(result["nll"]) / sum(result["tokens"])
        append_line(self.metrics, step=step, validation_loss=nll)
        self.say(f"step {step}/{trainer.max_steps}  validation loss {nll:.4f}")
