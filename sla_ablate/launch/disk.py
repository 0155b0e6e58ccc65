"""The disk space of a sweep, weighed before it starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sla_ablate.config.schema import TrainerConfig
from sla_ablate.errors import InputError
from sla_ablate.launch.plan import Run
from sla_ablate.model.config import GPTConfig
from sla_ablate.patterns.costs import n_parameters
from sla_ablate.text.words import size

MODEL_BYTES_PER_PARAMETER = 4
"""Bytes of a model's file: the weights, in float32."""
CHECKPOINT_BYTES_PER_PARAMETER = 12
"""Bytes of a trainer's checkpoint: the weights and AdamW's two moments, in float32."""


class DiskBytes(NamedTuple):
    """What one run writes, without its log and metrics."""

    running: int
    """The most while it trains: a checkpoint replaces an earlier one only when it is complete."""
    done: int
    """What a finished run leaves."""


def disk_bytes(config: GPTConfig, trainer: TrainerConfig) -> DiskBytes:
    """Disk space of one run of a model of this shape, for a sweep to be weighed before it starts."""
    model = MODEL_BYTES_PER_PARAMETER * n_parameters(config)
    checkpoint = CHECKPOINT_BYTES_PER_PARAMETER * n_parameters(config)
    models = model * (2 if trainer.keep_best else 1)
    return DiskBytes(
        running=models + checkpoint * (1 + max(2, trainer.keep_checkpoints)),
        done=models + checkpoint * trainer.keep_checkpoints,
    )


def parallel(launcher: Any, runs: int) -> int:
    """How many runs a launcher has going at a time, as far as one can know."""
    jobs = launcher.get("n_jobs") or launcher.get("array_parallelism") or 1
    return min(runs, jobs if jobs > 0 else os.cpu_count() or 1)


def check_disk(runs: Sequence[Run], at_a_time: int) -> str:
    """The disk space that runs will take, in words: what all leave, and what more those take that train at a time.

    Raises:
        InputError: there is less.
    """
    if not runs:
        return ""
    runs_bytes = [disk_bytes(run.config.gpt_config(run.vocab_size), run.config.trainer) for run in runs]
    more = sorted((each.running - each.done for each in runs_bytes), reverse=True)
    needed = sum(each.done for each in runs_bytes) + sum(more[:at_a_time])
    output = Path(runs[0].config.output).absolute()
    existing = next(path for path in (output, *output.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise InputError(f"{size(needed)} of disk are needed for {len(runs)} run(s), {existing} has {size(free)} free")
    return f"; about {size(needed)} of disk needed, {size(free)} free"
