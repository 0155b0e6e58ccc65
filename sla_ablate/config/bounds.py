"""The bounds of every number of a configuration, in one table: the schema's, and those of Hydra's launchers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from sla_ablate.bounds import Bounds
from sla_ablate.data.config import PARTS

_COUNT = 10**9
"""More steps than anybody takes, and few enough for counts of tokens to be 64-bit integers."""
_FLOAT32 = 1e30
"""What float32 holds, with room for what AdamW divides it by."""
_MINUTES = 1e7
"""Nineteen years, which every timer takes."""
_PROCESSES = 1024

BOUNDS: Mapping[str, Bounds] = {
    "model.n_layer": Bounds(1, 4096),
    "model.n_head": Bounds(1, 4096),
    "model.n_embd": Bounds(1, 2**20),
    "model.block_size": Bounds(2, 2**31 - 1),
    "model.dropout": Bounds(0.0, 1.0, "[)"),
    "model.rotary_base": Bounds(1.0, 1e15),
    "pattern.distance": Bounds(0, 4095),
    "pattern.heads": Bounds(0, 4096),
    "pattern.source": Bounds(0, 4095),
    "pattern.layers": Bounds(0, 4095),
    "pattern.group_size": Bounds(0, 4096),
    "pattern.split": Bounds(0, 4095),
    "pattern.kv_layers": Bounds(0, 4096),
    "pattern.seed": Bounds(0, 2**63 - 1),  # a column of int64 in tables
    "pattern.key_source": Bounds(0, 4095),
    "pattern.value_source": Bounds(0, 4095),
    "data.vocab_size": Bounds(257, 2**20),  # the tokenizer sets memory aside for so many
    "data.validation_fraction": Bounds(0.0, 1.0, "()"),
    "evaluation.tokens": Bounds(PARTS, 10**12),
    "optim.steps": Bounds(1, _COUNT),
    "optim.batch_size": Bounds(1, 10**6),
    "optim.micro_batches": Bounds(1, 10**6),
    "optim.lr": Bounds(0.0, _FLOAT32, "(]"),
    "optim.min_lr": Bounds(0.0, _FLOAT32),
    "optim.warmup_steps": Bounds(0, _COUNT),
    "optim.betas": Bounds(0.0, 1.0, "[)"),
    "optim.weight_decay": Bounds(0.0, 1e6),
    "optim.grad_clip": Bounds(0.0, 1e15),
    "optim.label_smoothing": Bounds(0.0, 1.0, "[)"),
    "trainer.devices": Bounds(1, _PROCESSES),
    "trainer.threads": Bounds(1, _PROCESSES),
    "trainer.workers": Bounds(0, _PROCESSES),
    "trainer.log_every": Bounds(1, _COUNT),
    "trainer.validate_every": Bounds(0, _COUNT),
    "trainer.checkpoint_minutes": Bounds(0.0, _MINUTES),
    "trainer.keep_checkpoints": Bounds(0, 10**6),
    "limits.minutes": Bounds(0.0, _MINUTES, "(]"),
    "limits.memory_gb": Bounds(0.0, 1e9, "(]"),
    "seed": Bounds(0, 2**32 - 1),  # what NumPy's and Lightning's generators take
}
"""What every number of `RunConfig` may be, in lists each of them; null too, where the schema has it."""

_ANY = Bounds(-(2**31), 2**31 - 1)
_ANY_FLOAT = Bounds(-1e30, 1e30)
_MANY = Bounds(1, 2**15)

HYDRA_BOUNDS: Mapping[str, Bounds] = {
    "hydra.launcher.n_jobs": Bounds(-_PROCESSES, _PROCESSES, without=0),  # joblib: -1 is all cores
    "hydra.launcher.timeout": Bounds(0.0, 1e9, "(]"),
    "hydra.launcher.timeout_min": Bounds(1, 10**7),
    "hydra.launcher.cpus_per_task": _MANY,
    "hydra.launcher.cpus_per_gpu": _MANY,
    "hydra.launcher.gpus_per_node": Bounds(0, _PROCESSES),
    "hydra.launcher.gpus_per_task": Bounds(0, _PROCESSES),
    "hydra.launcher.tasks_per_node": _MANY,
    "hydra.launcher.nodes": _MANY,
    "hydra.launcher.mem_gb": Bounds(1, 2**20),
    "hydra.launcher.signal_delay_s": Bounds(0, 2**15),  # sbatch's own, 65535, less what submitit adds
    "hydra.launcher.max_num_timeout": Bounds(0, 2**15),
    "hydra.launcher.array_parallelism": _MANY,
    "hydra.launcher.num_cpus": _MANY,
    "hydra.launcher.num_gpus": Bounds(0.0, 1024.0),
    "hydra.sweeper.max_batch_size": Bounds(1, 10**6),
    "hydra.sweeper.n_trials": Bounds(1, 10**6),
    "hydra.sweeper.n_jobs": Bounds(1, _PROCESSES),
    "hydra.sweeper.sampler.seed": Bounds(0, 2**32 - 1),
}
"""What numbers of the launchers and sweepers may be, null too; others of theirs are of 32 bits and finite."""


def check_numbers(config: Any) -> None:
    """Hold every number of a `RunConfig` against `BOUNDS`.

    Raises:
        InputError: the first that is not possible, in one line.
    """
    for key, value, or_null in _leaves(config):
        if key in BOUNDS:
            for number in _flat(value):
                if number is not None or not or_null:
                    BOUNDS[key].check(f"{key}={number}", number, ", or null" if or_null else "")


def check_hydra_numbers(hydra: Mapping[str, Any]) -> None:
    """Hold every number of what was composed for a launcher and a sweeper against `HYDRA_BOUNDS`.

    Raises:
        InputError: the first that is not possible, in one line.
    """
    for part in ("launcher", "sweeper"):
        for key, value in _flat_items(hydra[part], f"hydra.{part}"):
            if bounds := HYDRA_BOUNDS.get(key):
                if value is not None:
                    bounds.check(f"{key}={value}", value)
            elif isinstance(value, int | float) and not isinstance(value, bool):
                (_ANY if isinstance(value, int) else _ANY_FLOAT).check(f"{key}={value}", value)


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, bool]]:
    """Every key with its value, and True if the schema lets it be null."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value, str(field.type).endswith("| None")


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for each in value:
            yield from _flat(each)
    else:
        yield value


def _flat_items(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if name == "params":  # what is swept over, which is held against the runs' own bounds
            continue
        if isinstance(value, Mapping):
            yield from _flat_items(value, f"{prefix}.{name}")
        else:
            yield f"{prefix}.{name}", value
