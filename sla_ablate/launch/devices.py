"""The CUDA devices of this machine, handed out to runs."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from sla_ablate.config.machine import CUDA_VISIBLE_DEVICES, visible_devices
from sla_ablate.files import claim

LOCKS = Path(tempfile.gettempdir()) / "-".join(["sla-ablate", str(os.getuid()), os.environ.get("SLURM_JOB_ID", "all")])
"""Locks of this machine and user: a device is held as a run folder is, so that nothing outlives a killed process.

Jobs of Slurm on one machine each number their own devices from 0.
"""


@dataclass(frozen=True)
class Device:
    """What a run needs to know and to hold of its device or devices."""

    environment: dict[str, str] = field(default_factory=dict)
    locks: list[int] = field(default_factory=list)
    """Descriptors that the run's process has to inherit, for it may outlive the one that started it."""


@contextmanager
def borrow(accelerator: str, count: int, give_up: Callable[[], bool]) -> Iterator[Device | None]:
    """Borrow so many devices that no other run has; waits for them, and yields None if `give_up` says so meanwhile.

    Where there is no choice nothing is handed out: without a GPU, and with one, which runs may share.
    """
    names = visible_devices(accelerator)
    if len(names) < 2:
        yield Device()
        return
    while not give_up():
        with ExitStack() as claims:
            free = ((name, claims.enter_context(claim(LOCKS / name, patience=0))) for name in names)
            held = dict(islice(((name, lock) for name, lock in free if lock is not None), count))
            if len(held) == min(count, len(names)):  # a run that asks for more than there are is told so
                yield Device({CUDA_VISIBLE_DEVICES: ",".join(held)}, list(held.values()))
                return
        time.sleep(0.2)
    yield None
