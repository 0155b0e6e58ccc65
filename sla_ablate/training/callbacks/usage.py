"""What training took."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
import torch

from sla_ablate.processes.memory import owned_bytes
from sla_ablate.training.ranks import gather


class Usage(L.Callback):
    """Seconds of training and peak memory over all attempts at a run; work that a kill undid is not counted."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """Seconds of training up to the last micro-batch, with validations and checkpoints between steps."""
        self.peak_memory_bytes = 0
        """Peak memory of the GPU where one is in use, else of what the process owns; of several ranks, the largest."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock, at the seconds of earlier attempts."""
        self._started = time.perf_counter() - self.seconds

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Look at the memory: gradients are there, and what the backward pass needed is still the process's."""
        held = torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else owned_bytes()
        self.peak_memory_bytes = max(self.peak_memory_bytes, held)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read the clock."""
        self.seconds = time.perf_counter() - self._started

    def state_dict(self) -> dict[str, Any]:
        """Both so far."""
        self.peak_memory_bytes = max(gather(self.peak_memory_bytes))
        return {"seconds": self.seconds, "peak_memory_bytes": self.peak_memory_bytes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from an earlier attempt's."""
        self.seconds = state_dict["seconds"]
        self.peak_memory_bytes = state_dict["peak_memory_bytes"]
