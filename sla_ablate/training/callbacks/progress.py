"""Progress of a run: lines for people, and for metrics.jsonl."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import lightning as L
import torch

from sla_ablate.text.telling import waiting
from sla_ablate.text.words import training
from sla_ablate.training.callbacks.metrics import Metrics
from sla_ablate.training.callbacks.usage import Usage
from sla_ablate.training.divergence import check_loss
from sla_ablate.training.ranks import mean

_SECONDS = 5.0
"""The least time between two lines for people."""


class Progress(L.Callback):
    """Appends the training loss to the metrics and says how far the run is; ends a run whose loss is not finite.

    A metrics line holds `step` (optimizer steps done), `loss` (mean over the steps since the last line, nats
    per token, label smoothing included), `lr` (of the last of these steps), `tokens` seen and `tokens_per_second`.

    Args:
        metrics: where the lines go.
        usage: the clock, which comes before this in the trainer's list of callbacks.
        say: shows a line to people.
        log_every: steps between lines of the metrics.
        tokens_per_step: of one optimizer step, over all ranks.
    """

    def __init__(
        self,
        metrics: Metrics,
        usage: Usage,
        say: Callable[[str], None],
        log_every: int,
        tokens_per_step: int,
    ) -> None:
        self.metrics = metrics
        self.usage = usage
        self.say = say
        self.log_every = log_every
        self.tokens_per_step = tokens_per_step
        self._losses: list[torch.Tensor] = []
        self._lined = 0.0

    def state_dict(self) -> dict[str, Any]:
        """What the next line of the metrics will be made from."""
        losses = mean(torch.stack(self._losses)).unbind() if self._losses else ()
        return {"losses": list(losses), "lined": self._lined}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the losses of an earlier attempt."""
        self._losses = state_dict["losses"]
        self._lined = state_dict["lined"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say nothing for the first seconds; bring losses from a checkpoint to the device of those to come."""
        self._spoke = self.usage.seconds
        self._first = ExitStack()
        self._first.enter_context(waiting("working on the first step", self.say))
        self._losses = [loss.to(pl_module.device) for loss in self._losses]

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Note the learning rate of this step: after it, the schedule has set the next one's."""
        self._lr = optimizer.param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss; every `log_every` steps write a line, every so many seconds say one."""
        self._first.close()
        # Kept as tensors: reading one would make a GPU wait.
        self._losses.append(outputs["nats"])
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        step = trainer.global_step
        if step % self.log_every and step != trainer.max_steps:
            if self.usage.seconds - self._spoke >= _SECONDS:
                self._spoke = self.usage.seconds
                self.say(f"step {step}/{trainer.max_steps}")
            return
        loss = mean(torch.stack(self._losses)).mean().item()  # over ranks first, as a checkpoint keeps them
        steps = len(self._losses) // trainer.accumulate_grad_batches
        self._losses.clear()
        now = self.usage.seconds
        tokens_per_second = steps * self.tokens_per_step / (now - self._lined)
        self._lined = now
        self.metrics.append(
            step=step,
            loss=loss,
            lr=self._lr,
            tokens=step * self.tokens_per_step,
            tokens_per_second=round(tokens_per_second, 1),
        )
        # Not at checkpoints: when those are written depends on the clock, and what a run ends with must not.
        check_loss("training", loss, step)
        if now - self._spoke >= _SECONDS or step == trainer.max_steps:
            self._spoke = now
            left = now / step * (trainer.max_steps - step)
            self.say(training(step, trainer.max_steps, loss, tokens_per_second, left))
