"""With this folder on PYTHONPATH, runs fail at their second step, as the variable SLA_FAULTS says.

It holds a JSON object: the name of a fault below for every run id that shall have one, in its first attempt.
"""

import ctypes
import errno
import json
import os
import signal
import sys
import time
from pathlib import Path


def _exception():
    raise ZeroDivisionError("injected")


def _exit():
    sys.exit(0)


def _segfault():
    ctypes.string_at(0)


def _killed():
    os.kill(os.getpid(), signal.SIGKILL)


def _memory():
    held = bytearray(4_000_000_000)
    held[::4096] = bytes(len(held[::4096]))  # touched, or it is none
    time.sleep(3600)


def _hang():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    time.sleep(3600)


def _full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.jsonl")


FAULTS = {
    "exception": _exception,
    "exit": _exit,
    "segfault": _segfault,
    "killed": _killed,
    "memory": _memory,
    "hang": _hang,
    "full": _full,
}


def _inject():
    from sla_ablate.runs.record import read_record
    from sla_ablate.training import worker
    from sla_ablate.training.module import LanguageModel

    original, training_step = worker.main, LanguageModel.training_step

    def main(arguments):
        folder = Path(arguments[0])
        fault = json.loads(os.environ["SLA_FAULTS"]).get(folder.name)
        if fault and read_record(folder)["attempt"] == 1:

            def failing_step(self, batch, batch_idx):
                if batch_idx == 1:
                    FAULTS[fault]()
                return training_step(self, batch, batch_idx)

            LanguageModel.training_step = failing_step
        original(arguments)

    worker.main = main


if "sla_ablate.processes.zygote" in sys.orig_argv:
    _inject()
