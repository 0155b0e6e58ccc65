"""What a sweep costs beside training, and how long `status` takes.

    python benchmarks/sweep.py [--runs 50] [--status-runs 2000]

A sweep of one-step runs of a tiny model: seconds a run of composing and checking, and of carrying out without
`fit` (checkpoint included) and the validation. The first run, which waits for the imports, is the warm-up.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from faults import records, train, write_corpus

from sla_ablate.runs.record import read_record, write_record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--status-runs", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        overheads(folder, options.runs)
        status(folder, options.status_runs)


def overheads(folder: Path, runs: int) -> None:
    overrides = [*write_corpus(folder, runs), "optim.steps=1", "optim.warmup_steps=0", "sweep=s"]
    train(folder, ["seed=0", *overrides[2:], "sweep=warm"]).communicate()  # prepares the data
    started = time.perf_counter()
    sweep = train(folder, overrides)
    assert sweep.stdout is not None
    planned, ended = 0.0, []
    for line in sweep.stdout:
        if " already done" in line:
            planned = time.perf_counter() - started
        if "  done: " in line:
            ended.append(time.perf_counter() - started)
    assert sweep.wait() == 0
    assert len(ended) == runs
    training = sum(record["cost"]["seconds"] for record in records(folder / "runs" / "s").values()) / runs
    each = (ended[-1] - ended[0]) / (runs - 1)
    print(f"planning           {planned / runs:.3f} s a run")
    print(f"carrying out       {each:.3f} s a run, of which training {training:.3f}")
    print(f"beyond training    {planned / runs + each - training:.3f} s a run")
    print(f"warm-up            {ended[0] - planned - each:.1f} s")


def status(folder: Path, runs: int) -> None:
    """The time of the command, from runs of which every tenth is going on."""
    (example, *_) = (folder / "runs" / "s").iterdir()
    record = read_record(example)
    assert record is not None
    for i in range(runs):
        run = folder / "runs" / "many" / f"run-{i:04d}"
        run.mkdir(parents=True)
        shutil.copy(example / "metrics.jsonl", run)
        write_record(run, record | {"run_id": run.name, "state": "done" if i % 10 else "running"})
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        command = [sys.executable, "-m", "sla_ablate", "status", "runs/many"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    print(f"status             {min(seconds):.2f} s for {runs} runs")


if __name__ == "__main__":
    main()
