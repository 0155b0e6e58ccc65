"""The random numbers of a run, which go on where they were."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch


class RandomState(L.Callback):
    """Keeps the state of the generators that dropout draws from in the checkpoint."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The generators of the processor and, if it is in use, of the GPU."""
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        return {"cpu": torch.get_rng_state(), "cuda": cuda}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember the state until training starts: what comes before may draw too."""
        self._loaded = state_dict

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the generators."""
        if self._loaded is None:
            return
        torch.set_rng_state(self._loaded["cpu"])
        if self._loaded["cuda"] is not None and torch.cuda.is_initialized():
            torch.cuda.set_rng_state(self._loaded["cuda"])
