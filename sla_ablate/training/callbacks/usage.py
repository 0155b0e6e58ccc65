"""What training took."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import lightning as L
import torch


class Usage(L.Callback):
    """Seconds of training and peak memory over all attempts at a run; work that a kill undid is not counted."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """Seconds of training up to the last micro-batch, with validations and checkpoints between steps."""
        self._earlier_peak = 0

    @property
    def peak_memory_bytes(self) -> int:
        """Peak memory of the GPU where one is in use, else of the process; of several, the first."""
        if torch.cuda.is_initialized():
            peak = torch.cuda.max_memory_allocated()
        else:
            unit = 1 if sys.platform == "darwin" else 1024
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return max(peak, self._earlier_peak)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock, at the seconds of earlier attempts."""
        self._started = time.perf_counter() - self.seconds

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read the clock."""
        self.seconds = time.perf_counter() - self._started

    def state_dict(self) -> dict[str, Any]:
        """Both so far."""
        return {"seconds": self.seconds, "peak_memory_bytes": self.peak_memory_bytes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from an earlier attempt's."""
        self.seconds = state_dict["seconds"]
        self._earlier_peak = state_dict["peak_memory_bytes"]
