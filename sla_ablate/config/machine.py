"""What a configuration may ask of the machine that it is composed on; nothing here imports torch."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import sys
from functools import cache
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

CUDA_VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"


def visible_devices(accelerator: str) -> list[str]:
    """The devices that runs may use, each once; none for `cpu`.

    Their names are UUIDs, however CUDA_VISIBLE_DEVICES spells them; as it does where nvidia-smi lists none such.
    """
    if accelerator == "cpu":
        return []
    named = os.environ.get(CUDA_VISIBLE_DEVICES)
    if named is None:
        return [uuid for gpu in _installed() for uuid in gpu.devices]
    spelled = takewhile(lambda name: name not in ("", "-1"), map(str.strip, named.split(",")))
    return list(dict.fromkeys(map(_uuid, spelled)))


class Gpu(NamedTuple):
    """A GPU as `nvidia-smi -L` lists it."""

    model: str
    uuid: str
    instances: list[str]
    """UUIDs of the MIG instances that it is cut into."""

    @property
    def devices(self) -> list[str]:
        """The UUIDs of what runs can use of it."""
        return self.instances or [self.uuid]


def _uuid(spelled: str) -> str:
    """The UUID of the device that CUDA finds for an index or the beginning of a UUID; what was spelled, where unsure.

    Of a GPU in MIG instances it takes the first. It numbers unlike models by their speed, which nvidia-smi does not.
    """
    gpus = _installed()
    if spelled.isdigit():
        alike = len({gpu.model for gpu in gpus}) == 1 or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
        found = [gpu.devices[0] for gpu in gpus[int(spelled) :][:1]] if alike else []
    else:
        found = [gpu.devices[0] for gpu in gpus if gpu.uuid.startswith(spelled)]
        found += [uuid for gpu in gpus for uuid in gpu.instances if uuid.startswith(spelled)]
    return found[0] if len(found) == 1 else spelled


@cache
def _installed() -> list[Gpu]:
    """The machine's GPUs that torch can use."""
    if version("torch").endswith("+cpu"):
        return []
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, encoding="utf-8").stdout
    except FileNotFoundError:
        return []
    gpus: list[Gpu] = []
    for line in listing.splitlines():
        if found := re.match(r"GPU \d+: (.*) \(UUID: ([^)]+)\)", line):
            gpus.append(Gpu(found[1], found[2], []))
        elif found := re.match(r"\s+MIG .*\(UUID: ([^)]+)\)", line):
            gpus[-1].instances.append(found[1])
    return gpus


def parallel_runs(threads: int, devices: int, accelerator: str) -> int:
    """How many runs of so many devices, of so many threads each, go at a time: on the GPUs, else on the cores.

    Numbers that are not possible are told later, of every run.
    """
    if gpus := visible_devices(accelerator):
        return max(1, len(gpus) // max(1, devices))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max(1, threads * devices))


def most_threads() -> int:
    """How many threads this machine lets a user have, by the limits of the user, the container and the kernel."""
    limits = [limit for limit in resource.getrlimit(resource.RLIMIT_NPROC) if limit > 0]
    for path in map(Path, ("/sys/fs/cgroup/pids.max", "/proc/sys/kernel/threads-max")):
        if path.is_file() and (text := path.read_text(encoding="utf-8").strip()).isdigit():
            limits.append(int(text))
    return min(limits, default=sys.maxsize)


def natural_precision(accelerator: str, on_other_machines: bool = False) -> str:
    """What `trainer.precision=auto` means: `bf16` where the processor multiplies bfloat16 natively, else `fp32`.

    Args:
        accelerator: the run's: `auto`, `cpu` or `gpu`.
        on_other_machines: runs are sent to machines with GPUs, such as Slurm's, of which nothing is known here; theirs
            are taken to be of NVIDIA's Ampere generation or later.
    """
    if accelerator == "gpu" or (accelerator == "auto" and (on_other_machines or visible_devices(accelerator))):
        capabilities = [] if on_other_machines else _compute_capabilities()
        return "bf16" if min(capabilities, default=8.0) >= 8 else "fp32"
    return "bf16" if {"avx512_bf16", "amx_tile"} & set(processor("flags").split()) else "fp32"


@cache
def _compute_capabilities() -> list[float]:
    """The CUDA compute capabilities of this machine's GPUs."""
    try:
        query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
        listing = subprocess.run(query, capture_output=True, encoding="utf-8").stdout
    except FileNotFoundError:
        return []
    return [float(line) for line in listing.split() if re.fullmatch(r"\d+\.\d+", line)]


def processor_kind(accelerator: str = "auto") -> str:
    """The kind of processor that runs are carried out on here: a GPU's name, else the processor's."""
    if visible_devices(accelerator):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, encoding="utf-8").stdout.splitlines()[0].strip()
    return processor_name()


def processor_name() -> str:
    """A short plain name of the kind of processor, such as "AMD EPYC 9655".

    Where that tells no model, as in many virtual machines, with the numbers that do.
    """
    name = re.sub(r"\((R|TM)\)|\b(CPU|Processor|\d+-Core)\b|@.*", " ", processor("model name"))
    name = " ".join(name.split()) or platform.machine()
    if re.search(r"\d{3}", name):
        return name
    numbers = {"family": processor("cpu family"), "model": processor("model"), "part": processor("CPU part")}
    return ", ".join([name, *(f"{field} {number}" for field, number in numbers.items() if number)])


@cache
def processor(field: str) -> str:
    """A field of Linux's description of the processor, such as `flags`, its instruction sets; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == field), "")
