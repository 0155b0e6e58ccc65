"""The processes of a run on several devices: the run's own is rank 0, and forks the others.

All carry out the same attempt. Rank 0 alone writes files, says lines and takes signals; the others end when it ends,
and when one of them dies, it ends as failed.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

from sla_ablate.processes.signals import INTERRUPTED, Interruption

# A rank that died is noticed by `_watch`; one that waits may wait for rank 0 to validate.
_PATIENCE = timedelta(days=1)
_UNTIL_NOTICED = 1.0
_TO_CLOSE = 20.0
"""Seconds in which rank 0 may close what it has open, such as a logger, when another rank has failed."""
_HOST = "127.0.0.1"

T = TypeVar("T")


@dataclass(frozen=True)
class Rank:
    """One of the processes."""

    number: int
    count: int
    _listener: socket.socket | None = None
    """Rank 0's socket, where the others find it; bound before there were others, so that nobody can take its port."""

    def connect(self, device: str) -> None:
        """Join the process group: gloo, and NCCL between GPUs (device type `cuda`)."""
        if self._listener is None:
            return
        if device == "cuda":
            torch.cuda.set_device(self.number)
        store = distributed.TCPStore(
            _HOST,
            self._listener.getsockname()[1],
            self.count,
            is_master=self.number == 0,
            master_listen_fd=self._listener.detach() if self.number == 0 else None,
        )
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
            store=store,
            rank=self.number,
            world_size=self.count,
            timeout=_PATIENCE,
            device_id=torch.device("cuda", self.number) if device == "cuda" else None,
        )

    def disconnect(self) -> None:
        """Leave the process group."""
        if distributed.is_initialized():
            distributed.destroy_process_group()


@contextmanager
def ranks(count: int, interruption: Interruption, say: Callable[[str], None]) -> Iterator[Rank]:
    """Carry out a block in `count` processes, this one and its children: the block learns in which it is.

    To be entered before there are threads or a GPU is in use, which no fork carries over.

    Args:
        count: of the processes.
        interruption: of this one; the others leave signals to it.
        say: tells people why this process ends, when another dies.
    """
    if count == 1:
        yield Rank(0, 1)
        return
    with socket.create_server((_HOST, 0)) as listener:
        children = {}
        for number in range(1, count):
            child = os.fork()
            if child == 0:
                interruption.leave_to_parent()
                yield Rank(number, count, listener)
                return
            children[number] = child
        leaving = threading.Event()
        for number, child in children.items():
            threading.Thread(target=_watch, args=(number, child, leaving, say), daemon=True).start()
        try:
            yield Rank(0, count, listener)
        except Exception:
            leaving.set()
            time.sleep(_UNTIL_NOTICED)  # or a broken connection would be the reason, and not who broke it
            raise


def _watch(number: int, process: int, leaving: threading.Event, say: Callable[[str], None]) -> None:
    """Wait for a rank to end, and end this process if it fails: nothing else gets it out of a call to NCCL."""
    _, status = os.waitpid(process, 0)
    exit_code = os.waitstatus_to_exitcode(status)
    if exit_code in (0, INTERRUPTED):
        return
    if exit_code < 0:  # else it has said why
        say(f"rank {number} was ended by signal {-exit_code}: {signal.strsignal(-exit_code)}")
    leaving.wait(_TO_CLOSE)
    os._exit(1)


def agree(*decisions: bool) -> list[bool]:
    """The decisions of rank 0, on every rank."""
    if not distributed.is_initialized():
        return list(decisions)
    common = torch.tensor(decisions)
    distributed.broadcast(common, src=0)
    return common.tolist()


def mean(tensor: torch.Tensor) -> torch.Tensor:
    """The mean of the ranks' tensors, on every rank."""
    if not distributed.is_initialized():
        return tensor
    total = tensor.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def gather(value: T) -> list[T]:
    """The values of all ranks, on every rank."""
    if not distributed.is_initialized():
        return [value]
    values: list[T] = [value] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values
