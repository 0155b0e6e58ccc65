"""What a configuration may ask of the machine that it is composed on; nothing here imports torch."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from importlib.metadata import version
from itertools import takewhile

VARIABLE = "CUDA_VISIBLE_DEVICES"


def visible_devices(accelerator: str) -> list[str]:
    """The devices that runs may use, named as CUDA_VISIBLE_DEVICES names them; none for `cpu`."""
    if accelerator == "cpu":
        return []
    named = os.environ.get(VARIABLE)
    if named is None:
        return _installed()
    return list(takewhile(lambda name: name not in ("", "-1"), map(str.strip, named.split(","))))


@cache
def _installed() -> list[str]:
    """By UUID; of a GPU that is cut into MIG instances, those instances."""
    if version("torch").endswith("+cpu"):
        return []
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    except FileNotFoundError:
        return []
    names: list[str] = []
    for name in re.findall(r"UUID: ([^)]+)\)", listing):
        if name.startswith("MIG") and names and names[-1].startswith("GPU"):
            names.pop()
        names.append(name)
    return names


def parallel_runs(threads: int, devices: int, accelerator: str) -> int:
    """How many runs of so many devices, of so many threads each, go at a time: on the GPUs, else on the cores."""
    if gpus := visible_devices(accelerator):
        return max(1, len(gpus) // devices)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // (threads * devices))
