"""Checkpoints of the trainer's whole state, from which an interrupted run goes on."""

from __future__ import annotations

import hashlib
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import lightning as L
import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from sla_ablate.errors import InputError
from sla_ablate.files import opened, replacing
from sla_ablate.processes.signals import INTERRUPTED, Interruption
from sla_ablate.runs.digests import check_end
from sla_ablate.text.telling import Voice
from sla_ablate.training.callbacks.progress import Progress
from sla_ablate.training.callbacks.random_state import RandomState
from sla_ablate.training.divergence import DivergedError
from sla_ablate.training.ranks import agree

C = TypeVar("C", bound=L.Callback)
AT_LEAST = 2
"""Checkpoints that a run has while it trains: where the last is damaged, it goes on from the one before."""


class Checkpoints(L.Callback):
    """Saves every so many minutes, at the last step, and when the run is asked to stop, which it then does.

    Also when it fails in the middle of a step, as where memory runs out or data cannot be read: what the step before
    left is there still. (Not on several devices, which would wait for the one that failed.)

    The last in the trainer's list of callbacks: a checkpoint holds what the others made of its step.

    Args:
        folder: of the checkpoints; it exists.
        run: the id of the run, which is written into them.
        minutes: between two of them; 0: none but at the end.
        keep: how many, the last ones, `AT_LEAST` until the run ends.
        interruption: tells whether the run shall stop.
        say: shows a line to people.
    """

    def __init__(
        self, folder: Path, run: str, minutes: float, keep: int, interruption: Interruption, say: Voice
    ) -> None:
        self.folder = folder
        self.run = run
        self.minutes = minutes
        self.keep = max(AT_LEAST, keep)
        self.interruption = interruption
        self.say = say
        self._step = 0
        """The last that was completed, with what the others made of it."""
        self._after_step: tuple[dict[str, Any], dict[str, Any]] = {}, {}
        """What the next one changes before it changes weights: Lightning's counters and the random state."""
        self._fails = False

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
        if trainer.world_size == 1:
            self._step = step
            self._after_step = trainer.fit_loop.state_dict(), _only(RandomState, trainer).state_dict()
        due = self.minutes > 0 and time.monotonic() - self._saved >= 60 * self.minutes
        stop, due = agree(self.interruption.requested, due)
        if stop or due or step == trainer.max_steps:
            self._save(trainer, step)
            self._saved = time.monotonic()
        if stop:
            self.say(f"interrupted at step {step}; the same command goes on from here")
            raise SystemExit(INTERRUPTED)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Save what the last complete step left, unless that itself is what is wrong, or it is saved."""
        step = trainer.global_step
        if not isinstance(exception, Exception) or isinstance(exception, DivergedError):
            return
        if step == 0 or step != self._step or (self.folder / named_after(step)).exists():
            return
        self._fails = True
        try:
            self._save(trainer, step)
        except OSError as error:  # why it fails in the first place is told later
            self.say(f"{error.filename}: {error.strerror}")
        else:
            self.say(f"fails after step {step}; the same command goes on from there")

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say whose it is, and have what a failed step has changed be as it was before."""
        checkpoint["run"] = self.run
        if not self._fails:
            return
        callbacks = checkpoint["callbacks"]
        checkpoint["loops"]["fit_loop"], callbacks[_only(RandomState, trainer).state_key] = self._after_step
        losses = callbacks[_only(Progress, trainer).state_key]["losses"]
        del losses[len(losses) - len(losses) % trainer.accumulate_grad_batches :]

    def _save(self, trainer: L.Trainer, step: int) -> None:
        with self.say.waiting("saving a checkpoint"):
            trainer.save_checkpoint(self.folder / named_after(step))
        if trainer.is_global_zero:
            keep_last(self.folder, self.keep)


def _only(kind: type[C], trainer: L.Trainer) -> C:
    (callback,) = (each for each in trainer.callbacks if isinstance(each, kind))  # type: ignore[attr-defined]
    return callback


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically beside where they belong, and reads nothing but tensors and plain containers.

    A file ends with the SHA-256 of all that comes before.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write, without a copy in memory."""
        with replacing(Path(path)) as file:
            hashing = _Hashing(file)
            try:
                torch.save(checkpoint, cast(IO[bytes], hashing))
            except RuntimeError as error:
                # torch.save hides the reason for which a write failed behind an error of its own.
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None
            file.write(hashing.digest.digest())

    def load_checkpoint(self, path: Any, *unused: Any, **also_unused: Any) -> dict[str, Any]:
        """Read, without running any code that the file may hold.

        Raises:
            InputError: the file is broken, or no file.
        """
        path = Path(path)
        try:
            check_end(path.parent, path.name)
            with opened(path.parent, path.name) as file:
                checkpoint: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError):
            raise InputError(f"{path} is no checkpoint of this program") from None
        return checkpoint


class _Hashing:
    """A file to write to that keeps the digest of what it was given."""

    def __init__(self, file: IO[bytes]) -> None:
        self.digest = hashlib.sha256()
        self._file = file

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder by the steps in their names, the latest first."""
    return sorted(folder.glob("step-*.ckpt"), reverse=True)


def named_after(step: int) -> str:
    """The name of the checkpoint of a step."""
    return f"step-{step:08d}.ckpt"


def last_whole(folder: Path, check: Callable[[Path, dict[str, Any]], None], say: Voice) -> tuple[Path | None, int]:
    """The latest checkpoint that can be gone on from and its step; (None, 0) if there is none.

    Others are told, and set aside under the name that they have with `.refused` after it.

    Args:
        folder: of the checkpoints.
        check: raises an InputError for a checkpoint that is not the run's, or lacks something.
        say: shows a line to people.
    """
    refused = False
    for path in checkpoints(folder):
        try:
            state = AtomicCheckpointIO().load_checkpoint(path)
            check(path, state)
            if path.name != named_after(state["global_step"]):
                raise InputError(f"{path} is of step {state['global_step']}")
        except FileNotFoundError:
            continue
        except (InputError, OSError) as error:
            say(f"{path}: {error.strerror}; set aside" if isinstance(error, OSError) else f"{error}; set aside")
            path.replace(path.with_name(f"{path.name}.refused"))
            refused = True
        else:
            return path, state["global_step"]
    if refused:
        say("there is no other checkpoint; the run begins again")
    return None, 0


def keep_last(folder: Path, count: int) -> None:
    """Remove all checkpoints but the last `count`."""
    for path in checkpoints(folder)[count:]:
        path.unlink()
