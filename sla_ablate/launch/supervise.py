"""Carrying out one run in a process of its own, and recording what became of it."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import ExitStack
from dataclasses import asdict
from functools import cache
from pathlib import Path

from sla_ablate.config.schema import LimitsConfig, RunConfig
from sla_ablate.files import claim
from sla_ablate.launch import sweep_signals
from sla_ablate.launch.devices import Device, borrow
from sla_ablate.processes import outcome
from sla_ablate.processes.environment import settled
from sla_ablate.processes.memory import group_bytes
from sla_ablate.processes.signals import INTERRUPTED
from sla_ablate.processes.zygote import Call, LostError, Zygote
from sla_ablate.runs.provenance import begin, now
from sla_ablate.runs.record import FINAL, Record, read_config, read_summary, record_stamp, write_record
from sla_ablate.text import streams
from sla_ablate.text.telling import Voice, tell

WORKER = "sla_ablate.training.worker"
PRELOADED = (
    "sla_ablate.training.attempt",
    "omegaconf",
    "pandas",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "safetensors.torch",
)
"""What it imports only when it comes to need it."""
_LOG_TAIL = 30
_POLL_SECONDS = 0.2
# A run over a limit is asked to save, then, if it hangs, to show where (faulthandler does that), then killed.
_ESCALATION = ((0, signal.SIGTERM), (10, signal.SIGABRT), (15, signal.SIGKILL))


_FAR = 1.5
"""How many times what it may hold a run holds that is not asked first."""


def carry_out(folder: Path) -> None:
    """Carry out the run of a folder unless it has ended or another living process has it; a failed run raises nothing.

    Raises:
        KeyboardInterrupt: a signal asked the sweep to stop.
    """
    streams.settle()  # of a launcher's own process
    sweep_signals.listen()
    say = Voice(folder.name)
    if not folder.is_dir():
        say("its folder was removed before it ran")
        return
    with claim(folder) as lock, sweep_signals.heeded():
        record = read_summary(folder)
        if lock is None:
            say("another process runs it; left alone")
        elif record is None:
            say("its folder was removed before it ran")
        elif record["state"] in FINAL:
            say(f"already {record['state']}")
        else:
            config = read_config(folder)
            t = config.trainer
            with ExitStack() as borrowed:
                with say.waiting("waiting for a GPU"):
                    device = borrowed.enter_context(
                        borrow(t.accelerator, t.devices, lambda: bool(sweep_signals.received))
                    )
                if device is not None and not sweep_signals.received:
                    try:
                        _attempt(folder, config, record, lock, device, say)
                    except FileNotFoundError:
                        if record_stamp(folder) is not None:
                            raise
            if record_stamp(folder) is None:
                _end_as_removed(folder, say)
    if sweep_signals.received:
        sweep_signals.follow()


def _attempt(folder: Path, config: RunConfig, record: Record, lock: int, device: Device, say: Voice) -> None:
    for leftover in ("log_tail", "traceback"):
        record.pop(leftover, None)
    record |= {"state": "running", "attempt": record["attempt"] + 1, "error": None, "config": asdict(config)}
    record.setdefault("sittings", []).append(begin(record.get("command")))
    write_record(folder, record)
    with (folder / "run.log").open("a+b") as log:
        start = log.seek(0, os.SEEK_END)
        try:
            zygote = _zygote(config.trainer.threads)
            exit_code, reason = _run(zygote, folder, config.limits, log.fileno(), lock, device, say)
        except LostError as lost:
            _zygote.cache_clear()
            exit_code, reason = INTERRUPTED, "" if sweep_signals.received else str(lost)
            log.write(f"{folder.name}  {lost}\n".encode())
        log.seek(start)
        logged = log.read().decode(errors="replace").splitlines()
    lines = [line.removeprefix(f"{folder.name}  ") for line in logged]
    finished = read_summary(folder)
    if finished is None:
        return
    finished["sittings"][-1]["ended"] = now()
    if finished["state"] in FINAL:
        write_record(folder, finished)
        return
    traceback = outcome.traceback(lines)
    if not reason and (exit_code == INTERRUPTED or sweep_signals.received):
        state, error = "interrupted", "asked to stop"
    else:
        state, error = "failed", reason or outcome.reason(exit_code, lines)
    ending = {"state": state, "error": error, "traceback": traceback, "log_tail": lines[-_LOG_TAIL:]}
    write_record(folder, finished | ending)
    say(f"{state}: {error}; see {folder / 'run.log'}")
    if state == "failed" and traceback:
        tell("\n".join(f"  {line}" for line in traceback))


def _end_as_removed(folder: Path, say: Voice) -> None:
    if not (folder / "config.yaml").exists():  # else it was the record alone
        shutil.rmtree(folder, ignore_errors=True)  # what was written while it was removed
    say("its folder was removed while it ran")


@cache
def _zygote(threads: int) -> Zygote:
    environment = settled(os.environ)  # which is not the command's own in a process of Slurm's or Ray's
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return Zygote(WORKER, PRELOADED, environment)


def _run(
    zygote: Zygote, folder: Path, limits: LimitsConfig, log: int, lock: int, device: Device, say: Voice
) -> tuple[int, str]:
    """The exit code of the run's process, and why it was ended if a limit was the reason."""
    call = zygote.start(str(folder.absolute()), log, device.environment, held=[lock, *device.locks])
    steps = [] if limits.minutes is None else [(60 * limits.minutes + s, number) for s, number in _ESCALATION]
    reason, passed_on = "", 0
    with say.waiting("starting the process that imports what all runs need"):
        exit_code = call.wait(_POLL_SECONDS)
        while exit_code is None and call.pid is None and not sweep_signals.received:
            exit_code = call.wait(_POLL_SECONDS)
    while exit_code is None:
        if len(sweep_signals.received) > passed_on:
            say.note("asked to stop: finishes its step and saves")
            call.send(signal.SIGKILL if passed_on or len(sweep_signals.received) > 1 else signal.SIGTERM)
            passed_on = len(sweep_signals.received)
        while steps and call.seconds >= steps[0][0]:
            reason = reason or f"took longer than limits.minutes={limits.minutes:g}"
            call.send(steps.pop(0)[1])
        if limits.memory_gb is not None and (held := _held_gb(call)) > limits.memory_gb:
            if not reason:
                reason = f"held {held:.2f} GB of memory, more than limits.memory_gb={limits.memory_gb:g}"
                steps = [(call.seconds + s, number) for s, number in _ESCALATION]
            elif held > _FAR * limits.memory_gb:
                call.send(signal.SIGKILL)
        exit_code = call.wait(_POLL_SECONDS)
    return exit_code, reason


def _held_gb(call: Call) -> float:
    return group_bytes(call.pid) / 1e9 if call.pid is not None else 0.0
