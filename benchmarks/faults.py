"""Is a sweep that was disturbed the sweep that was not?

Some runs fail in seven ways at their first attempt (tests/faults), and the sweep is stopped and started again
several times, by SIGINT, SIGTERM and SIGKILL. In the end every result has to be the undisturbed sweep's, to the bit.

    python benchmarks/faults.py                                    200 runs, 20 faults, 3 stops
    python benchmarks/faults.py --runs 6 --faults 5 --stops 1 --parallel 2   what `make test` does
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from sla_ablate.runs.sweep import read_sweep

FAULTS = Path(__file__).parents[1] / "tests" / "faults"
NAMES = ("exception", "exit", "segfault", "killed", "memory", "hang", "full")
STOPS = (signal.SIGINT, signal.SIGKILL, signal.SIGTERM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--stops", type=int, default=3)
    parser.add_argument("--parallel", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        overrides = write_corpus(folder, options.runs)
        if options.parallel > 1:
            overrides += ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={options.parallel}"]

        started = time.perf_counter()
        calm = train(folder, [*overrides, "sweep=calm"])
        calm.communicate()
        assert calm.returncode == 0
        print(f"undisturbed: {options.runs} runs, {time.perf_counter() - started:.0f} s", flush=True)

        ids = sorted(records(folder / "runs" / "calm"))
        every = max(1, len(ids) // options.faults)
        faults = {run: NAMES[i % len(NAMES)] for i, run in enumerate(ids[::every][: options.faults])}
        started = time.perf_counter()
        failed = disturbed(folder, [*overrides, "sweep=wild"], faults, options.stops)
        print(f"disturbed: {time.perf_counter() - started:.0f} s; {len(faults)} faults, {options.stops} stops")
        for error, count in Counter(failed.values()).items():
            print(f"  {count} × {error}")

        first, second = (records(folder / "runs" / sweep) for sweep in ("calm", "wild"))
        # A stop may interrupt a run in its first attempt before its fault, or hide the line that tells of it.
        assert failed.keys() <= faults.keys(), set(failed) - set(faults)
        assert len(failed) >= len(faults) - options.stops * options.parallel, set(faults) - set(failed)
        assert {run: record["results"] for run, record in first.items()} == {
            run: record["results"] for run, record in second.items()
        }
        tables = [report(folder, sweep) for sweep in ("calm", "wild")]
        assert tables[0] == tables[1]
        print("every result and the table are the undisturbed sweep's")


def write_corpus(folder: Path, runs: int) -> list[str]:
    words = "the law of this land shall be kept by each state and its people in peace or war".split()
    lines = (json.dumps({"id": f"doc{i}", "text": " ".join(words[i % 7 :] + words[: i % 11])}) for i in range(400))
    (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    return [
        "pattern=baseline,sla_near", f"seed=range({runs // 2})", "model.n_layer=3", "model.n_head=2", "model.n_embd=16",
        "model.block_size=16", "data.path=corpus.jsonl", "data.cache=cache", "data.tokenizer=bytes", "optim.steps=30",
        "optim.batch_size=2", "optim.warmup_steps=1", "trainer.accelerator=cpu", "limits.minutes=0.25",
        "limits.memory_gb=2",
    ]  # fmt: skip


def train(folder: Path, overrides: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sla_ablate", "train", "-m", *overrides],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def disturbed(folder: Path, overrides: list[str], faults: dict[str, str], stops: int) -> dict[str, str]:
    """Run a sweep with faults and stops until all is done; the error of every run that failed."""
    environment = {"PYTHONPATH": str(FAULTS), "SLA_FAULTS": json.dumps(faults)}
    total = len(records(folder / "runs" / "calm"))
    ended: set[str] = set()
    failed, exit_code = {}, -1
    for attempt in range(stops + 3):
        sweep = train(folder, overrides, **environment)
        assert sweep.stdout is not None
        for line in sweep.stdout:
            run, _, what = line.strip().partition("  ")
            if what.startswith(("done: ", "failed: ")):
                ended.add(run)
            if what.startswith("failed: "):
                failed[run] = what.removeprefix("failed: ").split("; see ")[0]
            if attempt < stops and len(ended) >= total * (attempt + 1) // (stops + 2):
                number = STOPS[attempt % len(STOPS)]
                print(f"  {number.name} after {len(ended)} runs", flush=True)
                sweep.send_signal(number)
                break
        sweep.stdout.read()
        exit_code = sweep.wait()
        expected = (0, 1) if attempt >= stops else (130, -signal.SIGKILL)
        assert exit_code in expected, exit_code
        if exit_code == 0:
            break
    assert exit_code == 0, "not done after two more times"
    return failed


def records(sweep: Path) -> dict[str, dict[str, Any]]:
    return {record["run_id"]: record for record in read_sweep(sweep).records}


def report(folder: Path, sweep: str) -> str:
    command = [sys.executable, "-m", "sla_ablate", "report", f"runs/{sweep}"]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.replace(f"runs/{sweep}", "")


if __name__ == "__main__":
    main()
