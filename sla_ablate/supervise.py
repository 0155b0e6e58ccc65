"""Carrying out one run in a process of its own, and recording what became of it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import yaml

from sla_ablate.config import RunConfig
from sla_ablate.files import write_atomically
from sla_ablate.runs import SCHEMA, Identity, Record, claim, read_record, write_record

# A run decides for itself; what a launcher or an earlier job left in the environment must not reach it.
_FOREIGN = ("LOCAL_RANK", "NODE_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PL_GLOBAL_SEED")
_LOG_TAIL = 30


def run_folder(config: RunConfig, identity: Identity) -> Path:
    """Where a run's files are."""
    return Path(config.output) / config.sweep / identity.run_id


def carry_out(config: RunConfig, identity: Identity) -> None:
    """Run unless it is done or another living process runs it; never raises for a run that fails."""
    folder = run_folder(config, identity)
    with claim(folder) as lock:
        if lock is None:
            print(f"{folder.name}  another process runs it; left alone", flush=True)
            return
        record = read_record(folder)
        if record is not None and record["state"] == "done":
            print(f"{folder.name}  already done", flush=True)
            return
        attempt = 1 + (record["attempt"] if record else 0)
        record = _new_record(config, identity, attempt)
        write_atomically(folder / "config.yaml", yaml.safe_dump(asdict(config), sort_keys=False).encode())
        write_record(folder, record)
        try:
            exit_code = _run_worker(folder, config.trainer.threads, lock)
        except KeyboardInterrupt:
            _close(folder, "interrupted", "stopped by the user")
            raise
        finished = read_record(folder)
        if finished is None or finished["state"] != "done":
            _close(folder, "failed", _reason(folder, exit_code))


def _new_record(config: RunConfig, identity: Identity, attempt: int) -> Record:
    pattern = config.skip_pattern()
    return {
        "schema": SCHEMA,
        **asdict(identity),
        "state": "running",
        "attempt": attempt,
        "error": None,
        "seed": config.seed,
        "pattern": {
            "name": config.pattern.name,
            "label": config.pattern_label(),
            "key_source": pattern.key_source.tolist(),
            "value_source": pattern.value_source.tolist(),
        },
        "config": asdict(config),
    }


def _run_worker(folder: Path, threads: int, lock: int) -> int:
    environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    environment["OMP_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = str(threads)
    with (folder / "run.log").open("a") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "sla_ablate.worker", str(folder)],
            stdin=subprocess.DEVNULL,
            stderr=log,
            env=environment,
            pass_fds=(lock,),
        )
        try:
            return worker.wait()
        finally:
            if worker.poll() is None:
                worker.terminate()
                worker.wait()


def _reason(folder: Path, exit_code: int) -> str:
    """The last line that the worker logged, or the signal that ended it."""
    if exit_code < 0:
        return f"ended by signal {-exit_code}"
    lines = (folder / "run.log").read_text(errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    return f"exit code {exit_code}: {last}"


def _close(folder: Path, state: str, error: str) -> None:
    record = read_record(folder)
    assert record is not None
    log = (folder / "run.log").read_text(errors="replace").splitlines()
    write_record(folder, {**record, "state": state, "error": error, "log_tail": log[-_LOG_TAIL:]})
    print(f"{folder.name}  {state}: {error}; see {folder / 'run.log'}", flush=True)
