"""The machine that a run finds: what it needs to know of it, sets on it, and tells of it in the record."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any, Literal

import torch

from sla_ablate import __version__
from sla_ablate.config.machine import processor, processor_name
from sla_ablate.config.schema import RunConfig, TrainerConfig
from sla_ablate.errors import InputError
from sla_ablate.runs.provenance import CHECKOUT

Precision = Literal["bf16-mixed", "32-true"]
LIGHTNING_PRECISIONS: dict[str, Precision] = {"bf16": "bf16-mixed", "fp32": "32-true"}
"""Lightning's names; `auto` was settled when the run was planned."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_NEVER = 2**31 - 1
_MMAP_THRESHOLDS = (_NEVER, 32 << 20)
"""The largest that are accepted, by glibc from 2.35 on and by earlier ones (on 64 bits); mallopt answers 0 if not."""


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


def environment(config: RunConfig, device: str, trained_in: str, earlier: str | None) -> dict[str, Any]:
    """What a record tells of the machine and of the versions that a run is carried out with.

    Args:
        config: the run's.
        device: its type.
        trained_in: Lightning's name of the precision.
        earlier: the `processor` of the attempts that this one goes on from; others are told too.
    """
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    return {
        "host": platform.platform(),
        "cores": os.cpu_count(),
        "processor": " + ".join(dict.fromkeys([*(earlier.split(" + ") if earlier else []), gpu or processor_name()])),
        "device": device,
        "devices": config.trainer.devices,
        "strategy": config.trainer.strategy if config.trainer.devices > 1 else None,
        "gpu": gpu,
        "cpu": processor("model name") or platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": config.trainer.threads,
        "precision": trained_in,
        "python": platform.python_version(),
        "versions": _versions(device),
    }


def _versions(device: str) -> dict[str, str]:
    """The versions of this package and of all that it requires, and of what CUDA brings where it is in use."""
    required = [re.match(r"[\w.-]+", line) for line in _requirements() if "extra ==" not in line]
    names = [found[0] for found in required if found]
    cuda = {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())} if device == "cuda" else {}
    return {"sla-ablate": __version__} | {name: version(name) for name in names} | cuda


def _requirements() -> list[str]:
    """What this package requires, as it is installed, or as its checkout says that is not."""
    try:
        return requires("sla-ablate") or []
    except PackageNotFoundError:
        project = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
        found = re.search(r"^dependencies = \[\n(.*?)^\]", project, re.MULTILINE | re.DOTALL)
        return re.findall(r'^ *"(.+?)"', found[1] if found else "", re.MULTILINE)


def keep_freed_memory() -> None:
    """Keep freed memory in the process, where the C library is a glibc that can; elsewhere, do nothing.

    By default glibc gives large blocks back to the system, which then has to fault in and clear the same
    memory in every training step: 3 to 7 % of its time on a CPU (`benchmarks/README.md`). It is the threshold above
    which a block comes from the system that matters; raising the other alone would only end glibc's own adaptation of
    both, which is slower than doing nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and any(mallopt(_M_MMAP_THRESHOLD, threshold) for threshold in _MMAP_THRESHOLDS):
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
