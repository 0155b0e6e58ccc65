"""Checkpoints of the trainer's whole state, from which an interrupted run goes on."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from sla_ablate.errors import InputError
from sla_ablate.files import replacing
from sla_ablate.processes.signals import INTERRUPTED, Interruption
from sla_ablate.text.telling import Voice
from sla_ablate.training.ranks import agree


class Checkpoints(L.Callback):
    """Saves every so many minutes, at the last step, and when the run is asked to stop, which it then does.

    The last in the trainer's list of callbacks: a checkpoint holds what the others made of its step.

    Args:
        folder: of the checkpoints; it exists.
        minutes: between two of them; 0: none but at the end.
        keep: how many, the last ones.
        interruption: tells whether the run shall stop.
        say: shows a line to people.
    """

    def __init__(self, folder: Path, minutes: float, keep: int, interruption: Interruption, say: Voice) -> None:
        self.folder = folder
        self.minutes = minutes
        self.keep = keep
        self.interruption = interruption
        self.say = say

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put signals off: Lightning is about to set its own SIGTERM before ours, which talks to the other ranks."""
        self.interruption.put_off()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self.interruption.listen()  # again
        self._saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, if it is time, after an optimizer step."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        step = trainer.global_step
        due = self.minutes > 0 and time.monotonic() - self._saved >= 60 * self.minutes
        stop, due = agree(self.interruption.requested, due)
        if stop or due or step == trainer.max_steps:
            with self.say.waiting("saving a checkpoint"):
                trainer.save_checkpoint(self.folder / f"step-{step:08d}.ckpt")
            if trainer.is_global_zero:
                keep_last(self.folder, self.keep)
            self._saved = time.monotonic()
        if stop:
            self.say(f"interrupted at step {step}; the same command goes on from here")
            raise SystemExit(INTERRUPTED)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically beside where they belong, and reads nothing but tensors and plain containers."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write, without a copy in memory."""
        with replacing(Path(path)) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # torch.save hides the reason for which a write failed behind an error of its own.
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    def load_checkpoint(self, path: Any, *unused: Any, **also_unused: Any) -> dict[str, Any]:
        """Read, without running any code that the file may hold.

        Raises:
            InputError: the file is broken.
        """
        try:
            checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError):
            raise InputError(f"{path} is no checkpoint of this program; remove it and run the same command") from None
        return checkpoint


def last_checkpoint(folder: Path) -> tuple[Path | None, int]:
    """The latest checkpoint of a folder and its step; (None, 0) if there is none."""
    path = max(folder.glob("step-*.ckpt"), default=None)
    return path, int(path.stem.removeprefix("step-")) if path else 0


def keep_last(folder: Path, count: int) -> None:
    """Remove all checkpoints but the last `count`."""
    for path in sorted(folder.glob("step-*.ckpt"), reverse=True)[count:]:
        path.unlink()
