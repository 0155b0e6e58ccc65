"""The CUDA devices of this machine, handed out to runs."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from urllib.parse import quote

from sla_ablate.config.machine import CUDA_VISIBLE_DEVICES, visible_devices
from sla_ablate.files import claim

LOCKS = Path("~/.cache/sla-ablate/devices").expanduser()
"""Locks of this user: a device is held as a run folder is, so that nothing outlives a killed process.

In the home folder, where nobody else can put a link, and the same for every session, job and login of the user; that it
may be shared with other machines is no matter, for a UUID is one device's alone.
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
    LOCKS.mkdir(0o700, parents=True, exist_ok=True)
    wanted = min(count, len(names))  # a run that asks for more than there are is told so
    while not give_up():
        with ExitStack() as claims:
            if held := _all_or_none(names, wanted, claims):
                yield Device({CUDA_VISIBLE_DEVICES: ",".join(held)}, list(held.values()))
                return
        time.sleep(0.2)
    yield None


def _all_or_none(names: Sequence[str], count: int, claims: ExitStack) -> dict[str, int]:
    """Claim so many of these devices: their locks, to be let go by `claims`; none if fewer are free.

    One process tries at a time: of two that want two each and get one, both would let go and try again, for ever.
    """
    with claim(LOCKS) as turn, ExitStack() as tried:
        if turn is None:
            return {}
        for name in names:
            _lock(name).mkdir(exist_ok=True)
        free = ((name, tried.enter_context(claim(_lock(name), patience=0))) for name in names)
        held = dict(islice(((name, lock) for name, lock in free if lock is not None), count))
        if len(held) < count:
            return {}
        claims.enter_context(tried.pop_all())
        return held


def _lock(device: str) -> Path:
    """The folder that stands for a device; what has no UUID is a number of this machine, or of Slurm's job on it."""
    if not device.startswith(("GPU-", "MIG-")):
        device = "-".join([platform.node(), os.environ.get("SLURM_JOB_ID", "all"), device])
    return LOCKS / quote(device, safe="")
