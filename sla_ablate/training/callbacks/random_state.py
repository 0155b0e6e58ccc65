"""The random numbers of a run, which go on where they were."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from sla_ablate.training.ranks import gather


class RandomState(L.Callback):
    """Keeps the state of the generators that dropout draws from in the checkpoint, those of every rank.

    Ranks that were not there when it was saved, because there were fewer devices, go on with their seed's.
    """

    def __init__(self) -> None:
        self._loaded: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        """The generators of the processor and, if it is in use, of the GPU."""
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        return {"ranks": gather({"cpu": torch.get_rng_state(), "cuda": cuda})}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember the state until training starts: what comes before may draw too."""
        self._loaded = state_dict["ranks"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Set the generators."""
        if trainer.global_rank >= len(self._loaded):
            return
        state = self._loaded[trainer.global_rank]
        torch.set_rng_state(state["cpu"])
        if state["cuda"] is not None and torch.cuda.is_initialized():
            torch.cuda.set_rng_state(state["cuda"])
