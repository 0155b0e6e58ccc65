"""Every file that runs leave, damaged in every way, before every command: is what comes out right, repaired or named?

    python benchmarks/torture.py --matrix [--cells N] [--seed 0]

The runs are two done ones, analyzed, in one sweep, an interrupted one in another, and the cache of their corpus, all of
two layers, 16 wide. A cell is a file, a damage and a command, carried out on a copy in a process that is forked from
this one, with the processes of runs and measurements forked in turn. Its verdict:

- same: exit code 0, and the numbers of the undisturbed command; files that were repaired count as such.
- named: another exit code, or a line on stderr, and a line that names the file, its folder or its run.
- wrong: anything else: other numbers, a traceback, silence, no end.

Linux only, for it forks.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

SECONDS = 120
"""After which a command has no end."""
SIZE = [
    "model.n_layer=2", "model.n_head=2", "model.n_embd=16", "model.block_size=32", "model.dropout=0.1",
    "optim.steps=12", "optim.warmup_steps=2", "optim.batch_size=4", "evaluation.tokens=500", "trainer.precision=fp32",
    "trainer.log_every=2", "trainer.validate_every=4", "trainer.keep_best=true", "trainer.keep_checkpoints=1",
    "data.tokenizer=bytes", "data.cache=cache", "data.path=corpus.jsonl", "pattern.distance=1", "pattern.heads=1",
]  # fmt: skip
SWEEPS = {
    "done": ["-m", "pattern=baseline,sla", "sweep=done", *SIZE],
    "interrupted": ["-m", "pattern=baseline,sla", "sweep=interrupted", "seed=1", *SIZE],
}
"""Arguments of `train`; the baseline of `interrupted` is the interrupted run, the other is done."""
COMMANDS: dict[str, list[str]] = {
    "status": ["status", "SWEEP"],
    "report": ["report", "SWEEP"],
    "analyze": ["analyze", "SWEEP", "--tokens", "64", "--query-rows", "4", "--jobs", "1"],
    "figure": ["figure", "training", "SWEEP"],
    "generate": ["generate", "RUN", "the law", "--max-new-tokens", "8"],
    "export": ["export", "RUN", "exported"],
    "verify": ["verify", "SWEEP"],
    "train": ["train", "TRAIN"],
    "retry": ["retry", "SWEEP"],
}
DAMAGES = ("cut", "emptied", "flipped", "replaced", "renamed", "removed", "folder", "link", "pipe", "another's")
NOT_SEALED = ("run.log", ".lock", "config.yaml")
"""Files of a run that have no digest: what is in them determines no result, or names it and so is checked."""


@dataclass(frozen=True)
class Cell:
    """One of the matrix."""

    target: str
    """`done`, `interrupted` or `cache`."""
    file: str
    """In the folder of the target."""
    damage: str
    command: str


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    output: str
    """Of both streams."""
    stderr: str
    numbers: Any
    """What must not be another."""


class Matrix:
    """The undamaged folders, and what the commands make of them.

    Args:
        folder: to work in.
    """

    def __init__(self, folder: Path) -> None:
        self.work, self.pristine = folder / "work", folder / "pristine"
        self.work.mkdir()
        words = "the law of this land shall be kept by each state and its people in peace or war".split()
        draw = random.Random(0)
        lines = (json.dumps({"id": f"d{i}", "text": " ".join(draw.choices(words, k=80))}) for i in range(30))
        (self.work / "corpus.jsonl").write_text("\n".join(lines) + "\n")
        for name, overrides in SWEEPS.items():
            self._must(["train", *overrides])
            self._must(_filled(COMMANDS["analyze"], name, ""))
        (self.run,) = (path.name for path in self._runs("done") if path.name.startswith("baseline"))
        (self.interrupted,) = (path.name for path in self._runs("interrupted") if path.name.startswith("baseline"))
        self.expected_of_interrupted = self._results(self.work, "interrupted")
        shutil.rmtree(self.work / "runs/interrupted" / self.interrupted)
        self.call(["train", *SWEEPS["interrupted"]], stop_at=6)
        (self.cache,) = (path.name for path in (self.work / "cache").iterdir() if path.is_dir())
        shutil.copytree(self.work, self.pristine)
        self.expected: dict[tuple[str, str], Outcome] = {}

    def cells(self) -> list[Cell]:
        """All of them."""
        return [
            Cell(target, str(path.relative_to(folder)), damage, command)
            for target in ("done", "interrupted", "cache")
            for folder in [self.folder(target, self.pristine)]
            for path in sorted(folder.rglob("*"))
            if path.is_file() and "report" not in path.parts
            for damage in DAMAGES
            for command in COMMANDS
            if not (target == "interrupted" and command in ("generate", "export"))  # which need a done run
        ]

    def folder(self, target: str, root: Path) -> Path:
        """The folder of a target."""
        return {
            "done": root / "runs/done" / self.run,
            "interrupted": root / "runs/interrupted" / self.interrupted,
            "cache": root / "cache" / self.cache,
        }[target]

    def verdict(self, cell: Cell, chance: random.Random) -> tuple[str, str]:
        """`same`, `named` or `wrong`, and what was printed."""
        sweep = "interrupted" if cell.target == "interrupted" else "done"
        key = sweep, cell.command
        if key not in self.expected:
            self._restore()
            self.expected[key] = self._carry_out(sweep, cell.command)
        self._restore()
        self._damage(cell, chance)
        changed = self._is_changed(cell)
        outcome = self._carry_out(sweep, cell.command)
        return self._judge(cell, changed, self.expected[key], outcome), outcome.output

    def _is_changed(self, cell: Cell) -> bool:
        """Whether a file is there and another than it was; that of another run may be the same."""
        path, before = (self.folder(cell.target, root) / cell.file for root in (self.work, self.pristine))
        if path.is_file() and not path.is_symlink():
            return path.read_bytes() != before.read_bytes()
        return path.exists()

    def _judge(self, cell: Cell, changed: bool, expected: Outcome, outcome: Outcome) -> str:
        told = any(
            name in outcome.output for name in (Path(cell.file).name, str(self.folder(cell.target, self.work)))
        ) or (outcome.code != 0 and self.folder(cell.target, self.work).name in outcome.output)
        if "Traceback" in outcome.output or outcome.code not in (0, 1, 2):
            return "wrong"
        if outcome.code == 0 and outcome.numbers == expected.numbers:
            sealed = cell.target == "done" and cell.file not in NOT_SEALED
            missed = cell.command == "verify" and changed and sealed
            return "wrong" if missed else "same"
        if outcome.code == 0 and not outcome.stderr:
            return "wrong"
        return "named" if told else "wrong"

    def _carry_out(self, sweep: str, command: str) -> Outcome:
        run = self.run if sweep == "done" else self.interrupted
        arguments = _filled(COMMANDS[command], sweep, run)
        code, stdout, stderr = self.call(arguments)
        numbers: Any = None
        if command in ("report", "generate"):
            numbers = stdout
        elif command == "status":
            numbers = [line.split()[:2] for line in stdout.splitlines()]
        elif command == "analyze":
            numbers = _bytes(self.work, f"runs/{sweep}/analysis/*.parquet")
        elif command == "figure":
            numbers = _bytes(self.work, f"runs/{sweep}/figures/*.svg")
        elif command == "export":
            numbers = _bytes(self.work, "exported/model.safetensors", "exported/config.json")
        elif command in ("train", "retry"):
            numbers = self._results(self.work, sweep)
            if sweep == "done":  # whose models these commands do not look at
                numbers = {path: results for path, results in numbers.items() if path.endswith("results.json")}
        return Outcome(code, stdout + stderr, stderr, numbers)

    def _results(self, root: Path, sweep: str) -> dict[str, bytes]:
        return _bytes(root, f"runs/{sweep}/*/results.json", f"runs/{sweep}/*/checkpoints/model.safetensors")

    def _runs(self, sweep: str) -> list[Path]:
        return sorted(path.parent for path in self.work.glob(f"runs/{sweep}/*/record.json"))

    def _restore(self) -> None:
        shutil.rmtree(self.work)
        shutil.copytree(self.pristine, self.work)

    def _damage(self, cell: Cell, chance: random.Random) -> None:
        path = self.folder(cell.target, self.work) / cell.file
        contents = path.read_bytes()
        away = self.work / "elsewhere"
        if cell.damage == "cut":
            path.write_bytes(contents[: len(contents) // 2])
        elif cell.damage == "emptied":
            path.write_bytes(b"")
        elif cell.damage == "flipped":
            changed = bytearray(contents or b"\0")
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            path.write_bytes(changed)
        elif cell.damage == "replaced":
            path.write_bytes(chance.randbytes(len(contents) or 10))
        elif cell.damage == "renamed":
            path.rename(path.with_name(_other_name(path)))
        elif cell.damage == "another's":
            path.write_bytes(self._others(cell, path))
        else:
            path.unlink()
            if cell.damage == "folder":
                path.mkdir()
            elif cell.damage == "link":
                away.write_bytes(contents)
                path.symlink_to(away)
            elif cell.damage == "pipe":
                os.mkfifo(path)

    def _others(self, cell: Cell, path: Path) -> bytes:
        """The same file of another run, or of another corpus."""
        if cell.target == "cache":
            return path.read_bytes()[::-1]
        for sweep in ("done", "interrupted"):
            for run in self._runs(sweep):
                other = run / cell.file
                if run != self.folder(cell.target, self.work) and other.is_file() and not run.name.startswith("base"):
                    return other.read_bytes()
        other = next(self.pristine.glob(f"runs/*/*/{Path(cell.file).parent}/*{path.suffix}"))
        return other.read_bytes()

    def _must(self, arguments: Sequence[str]) -> None:
        code, stdout, stderr = self.call(arguments)
        assert code == 0, stdout + stderr

    def call(self, arguments: Sequence[str], stop_at: int | None = None) -> tuple[int, str, str]:
        """Carry out a command in a process of its own; its exit code, stdout and stderr."""
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            child = os.fork()
            if child == 0:
                _in_child(arguments, self.work, stdout.fileno(), stderr.fileno(), stop_at)
            code = _wait(child, SECONDS)
            texts = []
            for file in (stdout, stderr):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
        return code, texts[0], texts[1]


def _filled(arguments: Sequence[str], sweep: str, run: str) -> list[str]:
    places = {"SWEEP": [f"runs/{sweep}"], "RUN": [f"runs/{sweep}/{run}"], "TRAIN": SWEEPS[sweep]}
    return [each for argument in arguments for each in places.get(argument, [argument])]


def _other_name(path: Path) -> str:
    step = path.stem.removeprefix("step-")
    return f"step-{int(step) + 1:08d}.ckpt" if step.isdigit() else f"{path.name}.bak"


def _bytes(root: Path, *patterns: str) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for pattern in patterns
        for path in sorted(root.glob(pattern))
        if path.is_file()
    }


def _wait(child: int, seconds: float) -> int:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGKILL


def _in_child(arguments: Sequence[str], work: Path, stdout: int, stderr: int, stop_at: int | None) -> None:
    from sla_ablate import commands

    os.setpgid(0, 0)
    os.chdir(work)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    code = 1
    try:
        _fork_what_is_started(stop_at)
        commands.main(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class _Forking:
    """Stands for the zygote: a run is a fork of this process."""

    def __init__(self, stop_at: int | None) -> None:
        self._stop_at = stop_at

    def start(self, argument: str, log: int, *_: object, **__: object) -> _Forked:
        child = os.fork()
        if child == 0:
            os.dup2(log, 1)
            os.dup2(log, 2)
            _exit_as(lambda: _train(argument, self._stop_at))
        return _Forked(child)


class _Forked:
    """Stands for a call of the zygote's."""

    seconds = 0.0

    def __init__(self, child: int) -> None:
        self.pid = child

    def wait(self, seconds: float) -> int | None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            time.sleep(0.01)
        return os.waitstatus_to_exitcode(status) if pid else None

    def send(self, number: int) -> None:
        os.kill(self.pid, number)


def _train(folder: str, stop_at: int | None) -> None:
    from sla_ablate.training import worker
    from sla_ablate.training.callbacks import checkpoints

    if stop_at is not None:
        always = property(lambda self: 1e-9, lambda self, value: None)
        checkpoints.Checkpoints.minutes = always  # type: ignore[assignment]
        saved = checkpoints.AtomicCheckpointIO.save_checkpoint

        def save(self: Any, checkpoint: Any, path: Path, storage_options: Any = None) -> None:
            saved(self, checkpoint, path)
            if checkpoint["global_step"] > stop_at:
                os.kill(os.getpid(), signal.SIGKILL)

        checkpoints.AtomicCheckpointIO.save_checkpoint = save  # type: ignore[method-assign]
    worker.main([folder])


def _exit_as(function: Callable[[], object]) -> None:
    code = 0
    try:
        function()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        sys.stderr.flush()
        os._exit(code)


def _fork_what_is_started(stop_at: int | None) -> None:
    from analysis import analyze, worker
    from sla_ablate.launch import supervise
    from sla_ablate.processes import outcome

    supervise._zygote = lambda threads: _Forking(stop_at)  # type: ignore[assignment]

    def call_each(
        module: str, preloaded: object, calls: Sequence[str], jobs: int, began: Callable[[str], object]
    ) -> Iterator[tuple[str, str | None, list[str]]]:
        for argument in list(calls):
            with tempfile.TemporaryFile() as log:
                child = os.fork()
                if child == 0:
                    os.dup2(log.fileno(), 2)
                    _exit_as(partial(worker.main, [argument]))
                _, status = os.waitpid(child, 0)
                code = os.waitstatus_to_exitcode(status)
                log.seek(0)
                lines = log.read().decode(errors="replace").splitlines()
            yield argument, outcome.reason(code, lines) if code else None, lines

    analyze.call_each = call_each  # type: ignore[assignment]


def preload() -> None:
    """Import what commands would, so that a cell does not."""
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    import sla_ablate.launch.launch
    import sla_ablate.runs.export
    import sla_ablate.training.attempt  # noqa: F401


def run(folder: Path, number: int | None, seed: int) -> tuple[Counter[tuple[str, str]], list[tuple[Cell, str]]]:
    """Carry out the cells, or so many of them, drawn by a seed.

    Returns:
        How many of each command and verdict, and the wrong ones with what was printed.
    """
    preload()
    chance = random.Random(seed)
    matrix = Matrix(folder)
    cells = matrix.cells()
    chosen = cells if number is None else chance.sample(cells, number)
    counts: Counter[tuple[str, str]] = Counter()
    wrong = []
    for cell in chosen:
        verdict, output = matrix.verdict(cell, chance)
        counts[cell.command, verdict] += 1
        if verdict == "wrong":
            wrong.append((cell, output))
            print(f"wrong: {cell}\n{output[-1500:]}", flush=True)
    return counts, wrong


def table(counts: Counter[tuple[str, str]]) -> str:
    """The counts in Markdown."""
    lines = ["| command | cells | same or repaired | named | wrong |", "|---|---|---|---|---|"]
    for command in COMMANDS:
        row = [counts[command, verdict] for verdict in ("same", "named", "wrong")]
        lines.append(f"| {command} | {sum(row)} | {row[0]} | {row[1]} | {row[2]} |")
    return "\n".join(lines)
