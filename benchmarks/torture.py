"""A run that is killed over and over, against the same run left alone: is the result the same, bit for bit?

    python benchmarks/torture.py [--kills 30] [--steps 1500] [--seed 0] [OVERRIDES…]
    python benchmarks/torture.py --matrix [--cells N] [--seed 0]

The second is `matrix.py`: files that are damaged instead of runs that are killed.

Both runs are `sla-ablate train` with dropout, gradient accumulation, two data workers and a checkpoint every second.
A kill is SIGKILL to every process of the command, or by turns to the one that trains, at a random moment after its
training has begun or, one time in five, after the command has started. Compared are the model's file, the state of
the optimizer and of the random numbers, metrics.jsonl without its speeds, and the results in the record. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import matrix
import torch

from sla_ablate.runs.record import read_record

# What a run that is to be disturbed needs; the rest is the default of `sla-ablate train`.
OVERRIDES = [
    "model.dropout=0.1", "optim.batch_size=4", "optim.micro_batches=2", "trainer.workers=2", "trainer.log_every=7",
    "trainer.validate_every=500", "trainer.checkpoint_minutes=0.017", "trainer.keep_checkpoints=1", "sweep=torture",
]  # fmt: skip


class Command:
    """`sla-ablate train`, as often as it takes, in a folder of its own."""

    def __init__(self, folder: Path, overrides: list[str]) -> None:
        self.folder = folder
        self.arguments = [sys.executable, "-m", "sla_ablate", "train", *OVERRIDES, *overrides]
        folder.mkdir()

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.arguments, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def run(self) -> Path:
        """The folder of its run."""
        return next((self.folder / "runs" / "torture").glob("*/record.json")).parent

    def begun(self) -> int:
        """Attempts that came as far as to train."""
        logs = (self.folder / "runs" / "torture").glob("*/run.log")
        return sum(log.read_text().count("thread(s)") for log in logs)

    def outcome(self) -> dict[str, Any]:
        """Everything that must not depend on the kills."""
        run = self.run()
        record = read_record(run)
        assert record is not None
        (checkpoint,) = (run / "checkpoints").glob("*.ckpt")
        state = torch.load(checkpoint, weights_only=True)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return {
            "record": record["state"] == "done",
            "weights": (run / "checkpoints" / "model.safetensors").read_bytes(),
            "optimizer": plain(state["optimizer_states"]),
            "random numbers": plain(state["callbacks"]["RandomState"]),
            "metrics": [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in lines],
            "results": record["results"],
        }


def plain(value: Any) -> Any:
    """Tensors as lists, in nested containers."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def descendants(process: int) -> list[int]:
    """Every process that a process started, directly or not, the latest generation first."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    generation, found = [process], list[int]()
    while generation := [child for parent in generation for child in children.get(parent, [])]:
        found = generation + found
    return found


def kill(command: subprocess.Popen[bytes], run_only: bool) -> None:
    """SIGKILL to everything, or to all but the command itself, which then ends by itself."""
    for process in descendants(command.pid):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass
    if not run_only:
        command.kill()
    command.wait()


def damage(cells: int | None, seed: int) -> None:
    """Print the counts of the matrix, and exit with 1 if a cell is wrong."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        counts, wrong = matrix.run(Path(temporary), cells, seed)
    print(matrix.table(counts))
    print(f"{counts.total()} cells, {len(wrong)} wrong, {time.perf_counter() - started:.0f} s")
    sys.exit(bool(wrong))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills, or of the cells")
    parser.add_argument("--matrix", action="store_true", help="damage files instead of killing runs")
    parser.add_argument("--cells", type=int, help="of the matrix, drawn at random (default: all)")
    options, overrides = parser.parse_known_args()
    if options.matrix:
        damage(options.cells, options.seed)
    overrides.append(f"optim.steps={options.steps}")
    chance = random.Random(options.seed)

    with tempfile.TemporaryDirectory(prefix="torture-") as temporary:
        undisturbed = Command(Path(temporary) / "undisturbed", overrides)
        started = time.perf_counter()
        undisturbed.start().wait()
        whole = time.perf_counter() - started
        expected = undisturbed.outcome()
        training = json.loads((undisturbed.run() / "record.json").read_text())["cost"]["seconds"]
        print(f"undisturbed: {whole:.0f} s, {training:.0f} of them training", flush=True)

        killed = Command(Path(temporary) / "killed", overrides)
        kills: Counter[str] = Counter()
        started = time.perf_counter()
        while kills.total() < options.kills:
            begun = killed.begun()
            command = killed.start()
            if chance.random() < 0.8:
                while killed.begun() == begun and command.poll() is None:
                    time.sleep(0.01)
                # Long enough for the last kills to come late in the run, but not after it.
                time.sleep(chance.uniform(0, 1.5 * training / options.kills))
            else:
                time.sleep(chance.uniform(0, whole - training))
            if command.poll() is not None:
                break
            trained = killed.begun() > begun
            kill(command, run_only=chance.random() < 0.5)
            half_written = any(killed.folder.glob("runs/torture/*/checkpoints/.*"))
            kills["while writing" if half_written else "training" if trained else "before training"] += 1
            steps = sorted(path.stem for path in killed.folder.glob("runs/torture/*/checkpoints/*.ckpt"))
            print(f"kill {kills.total()}: {steps[-1] if steps else 'no checkpoint yet'}", flush=True)
        killed.start().wait()
        elapsed = time.perf_counter() - started
        actual = killed.outcome()

    different = [name for name in expected if expected[name] != actual[name]]
    print("\n| kills | while training | while a checkpoint was written | before training | steps | seconds | result |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {kills.total()} | {kills['training']} | {kills['while writing']} | {kills['before training']} "
        f"| {options.steps} | {whole:.0f} undisturbed, {elapsed:.0f} killed "
        f"| {'different ' + ', '.join(different) if different else 'bit-identical'} |"
    )
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
