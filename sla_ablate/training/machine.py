"""The machine that a run finds: what it needs to know of it, sets on it, and tells of it in the record."""

from __future__ import annotations

import ctypes
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from sla_ablate.config.machine import processor
from sla_ablate.config.schema import RunConfig, TrainerConfig
from sla_ablate.errors import InputError

Precision = Literal["bf16-mixed", "32-true"]
LIGHTNING_PRECISIONS: dict[str, Precision] = {"bf16": "bf16-mixed", "fp32": "32-true"}
"""Lightning's names; `auto` was settled when the run was planned."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_NEVER = 2**31 - 1


def device_type(config: TrainerConfig) -> str:
    """The type of the run's devices.

    Raises:
        InputError: there are fewer GPUs than devices, or none where one is asked for.
    """
    if config.accelerator == "cpu" or not torch.cuda.is_available():
        if config.accelerator == "gpu":
            raise InputError("trainer.accelerator=gpu is not possible, for torch finds no GPU; choose auto or cpu")
        return "cpu"
    if config.devices > (available := torch.cuda.device_count()):
        raise InputError(f"trainer.devices={config.devices} is more than there are GPUs; choose at most {available}")
    return "cuda"


def environment(config: RunConfig, device: str, trained_in: str) -> dict[str, Any]:
    """What a record tells of the machine and of the versions that a run is carried out with."""
    names = ("sla-ablate", "torch", "lightning", "numpy", "tokenizers")
    return {
        "device": device,
        "devices": config.trainer.devices,
        "strategy": config.trainer.strategy if config.trainer.devices > 1 else None,
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "cpu": processor("model name") or platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": config.trainer.threads,
        "precision": trained_in,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """The commit of the checkout that the package is run from; None where it is installed."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    head = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, encoding="utf-8")
    return head.stdout.strip() or None


def keep_freed_memory() -> None:
    """Keep freed memory in the process, where the C library is glibc; elsewhere, do nothing.

    By default glibc gives large blocks back to the system, which then has to fault in and clear the same
    memory in every training step: 3 to 7 % of its time on a CPU (`benchmarks/README.md`).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
        mallopt(_M_MMAP_THRESHOLD, _NEVER)
