"""Progress of a run: lines for people, and metrics.jsonl."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch

from sla_ablate.training import LanguageModel


class Progress(L.Callback):
    """Appends the training loss to `metrics.jsonl` and says how far the run is.

    A metrics line holds `step` (optimizer steps done), `loss` (mean over the steps since the last line, nats
    per token, label smoothing included), `lr`, `tokens` seen and `tokens_per_second`.
    """

    def __init__(
        self,
        metrics: Path,
        say: Callable[[str], None],
        log_every: int,
        tokens_per_step: int,
        seconds: float = 5,
    ) -> None:
        self.metrics = metrics
        self.say = say
        self.log_every = log_every
        self.tokens_per_step = tokens_per_step
        self.seconds = seconds

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clocks."""
        self._losses: list[torch.Tensor] = []
        self._started = self._lined = self._spoke = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss; every `log_every` steps write a line, every `seconds` say one."""
        # Kept as tensors: reading one would make a GPU wait.
        self._losses.append(outputs["loss"].detach())
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        step = trainer.global_step
        if step % self.log_every and step != trainer.max_steps:
            return
        loss = torch.stack(self._losses).mean().item()
        steps = len(self._losses) // trainer.accumulate_grad_batches
        self._losses.clear()
        now = time.perf_counter()
        tokens_per_second = steps * self.tokens_per_step / (now - self._lined)
        self._lined = now
        assert isinstance(pl_module, LanguageModel)
        append_line(
            self.metrics,
            step=step,
            loss=loss,
            lr=trainer.optimizers[0].param_groups[0]["lr"],
            tokens=step * self.tokens_per_step,
            tokens_per_second=round(tokens_per_second, 1),
        )
        if now - self._spoke >= self.seconds or step == trainer.max_steps:
            self._spoke = now
            left = (now - self._started) / step * (trainer.max_steps - step)
            self.say(
                f"step {step}/{trainer.max_steps}  loss {loss:.3f}  {tokens_per_second:,.0f} tokens/s  "
                f"{int(left) // 60}:{int(left) % 60:02d} left"
            )


def append_line(path: Path, **values: Any) -> None:
    """Append one JSON line."""
    with path.open("a") as file:
        file.write(json.dumps(values) + "\n")
