"""Runs that are killed, asked to stop, or left without a disk, and go on: real worker processes."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from sla_ablate.config.schema import ModelConfig, OptimConfig, PatternConfig, RunConfig, TrainerConfig
from sla_ablate.data.config import DataConfig
from sla_ablate.data.shards import prepare
from sla_ablate.errors import InputError
from sla_ablate.launch.disk import disk_bytes
from sla_ablate.processes.signals import INTERRUPTED
from sla_ablate.runs.identity import SCHEMA, setting_of
from sla_ablate.runs.record import read_record, write_config, write_record
from sla_ablate.training import worker
from sla_ablate.training.callbacks import validation
from sla_ablate.training.callbacks.checkpoints import AtomicCheckpointIO, checkpoints
from sla_ablate.training.callbacks.metrics import Metrics
from sla_ablate.training.module import LanguageModel

STEPS = 60
EVERY_STEP = 1e-6  # minutes
# Importing Lightning takes seconds: workers are forked from a process that has done it.
FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["sla_ablate.training.attempt", __name__])


@pytest.fixture
def config(small_corpus):
    """Dropout, accumulation, a log interval that no checkpoint respects, validation; some 30 ms a step."""
    return RunConfig(
        model=ModelConfig(n_layer=3, n_head=2, n_embd=32, block_size=32, dropout=0.2),
        pattern=PatternConfig("sla", distance=1),
        data=DataConfig(path=str(small_corpus), tokenizer="bytes", cache=str(small_corpus.parent / "cache")),
        optim=OptimConfig(steps=STEPS, batch_size=9, micro_batches=3, warmup_steps=5, lr=1e-2),
        trainer=TrainerConfig(
            precision="fp32", log_every=7, validate_every=25, checkpoint_minutes=EVERY_STEP, keep_checkpoints=2,
            keep_best=True,
        ),
    )  # fmt: skip


class Attempts:
    """The attempts at one run, each in a process of its own, as the supervisor starts them."""

    def __init__(self, folder: Path, config: RunConfig) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.log = folder.with_suffix(".log")
        folder.mkdir()
        write_config(folder, config)
        pattern = config.skip_pattern()
        tables = {"key_source": pattern.key_source.tolist(), "value_source": pattern.value_source.tolist()}
        setting = setting_of(config, prepare(config.data, log=lambda line: None).digest)
        self.entered = {
            "schema": SCHEMA, "state": "running", "run_id": "run", "pairing": "p", "setting": setting, "seed": 0,
            "attempt": 1, "error": None, "pattern": {"name": "sla", "label": "SLA", **tables}, "config": asdict(config),
        }  # fmt: skip
        write_record(folder, self.entered)

    def start(self, file_bytes: int | None = None, training_step: Callable | None = None):
        process = FORKSERVER.Process(target=_work, args=(self.folder, self.log, file_bytes, training_step))
        process.start()
        return process

    def finish(self, **options) -> int:
        process = self.start(**options)
        process.join(60)
        return process.exitcode

    def kill(self, process) -> None:
        os.kill(process.pid, signal.SIGKILL)
        process.join()

    def step(self) -> int:
        return last_checkpoint(self.checkpoints)[1]

    def wait_for_step(self, step: int) -> None:
        wait_until(lambda: self.step() >= step)

    def record(self) -> dict:
        return read_record(self.folder)

    def said(self) -> list[str]:
        return self.log.read_text().splitlines()

    def outcome(self) -> dict:
        """All that has to be the same, however often the run was ended."""
        record = self.record()
        assert record["state"] == "done"
        lines = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        checkpoints = sorted(self.checkpoints.glob("*.ckpt"))
        state = torch.load(checkpoints[-1], weights_only=True)
        return {
            "files": sorted(
                str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.suffix != ".refused"
            ),
            "weights": (self.checkpoints / "model.safetensors").read_bytes(),
            "best": (self.checkpoints / "best" / "model.safetensors").read_bytes(),
            "optimizer": _plain(state["optimizer_states"]),
            "schedule": _plain(state["lr_schedulers"]),
            "random": _plain(state["callbacks"]["RandomState"]),
            "metrics": [{k: v for k, v in line.items() if k != "tokens_per_second"} for line in lines],
            "results": record["results"],
            "tokens": record["cost"]["tokens"],
        }


def _work(folder: Path, log: Path, file_bytes: int | None, training_step: Callable | None) -> None:
    """In the child: what `python -m sla_ablate.training.worker` does, its output in the log."""
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    multiprocessing.set_start_method("fork", force=True)  # of the processes that read batches, as elsewhere
    if file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    if training_step:
        LanguageModel.training_step = training_step
    worker.main([str(folder)])


def _plain(value):
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def last_checkpoint(folder: Path) -> tuple[Path | None, int]:
    """The latest and its step."""
    path = next(iter(checkpoints(folder)), None)
    return path, int(path.stem.removeprefix("step-")) if path else 0


def wait_until(condition, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.0005)


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()] if found.exists() else []


def stop_while_writing(process, folder: Path) -> None:
    """Halt the process at a moment at which a checkpoint is half written."""
    while True:
        wait_until(lambda: any(folder.glob(".*.ckpt.*")))
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(0.002)  # it takes effect
        if any(folder.glob(".*.ckpt.*")):
            return
        os.kill(process.pid, signal.SIGCONT)


@pytest.fixture
def attempts(tmp_path, config):
    return Attempts(tmp_path / "run", config)


@pytest.mark.slow
def test_killed_runs_end_as_if_nothing_had_happened(tmp_path, config):
    undisturbed = Attempts(tmp_path / "undisturbed", config)
    assert undisturbed.finish() == 0
    expected = undisturbed.outcome()
    assert [line["step"] for line in expected["metrics"]] == [7, 14, 21, 25, 28, 35, 42, 49, 50, 56, 60, 60]
    kept = [path for path in expected["files"] if path.endswith("ckpt")]
    assert kept == ["checkpoints/step-00000059.ckpt", "checkpoints/step-00000060.ckpt"]
    killed = Attempts(tmp_path / "killed", config)
    torture(killed, config, random.Random(0))
    actual = killed.outcome()
    assert {key: actual[key] == expected[key] for key in expected} == dict.fromkeys(expected, True)


def torture(attempts: Attempts, config: RunConfig, chance: random.Random) -> None:
    """Kill a run at all kinds of moments, and in the end let it finish; processes read its batches in every other."""

    def start():
        config.trainer.workers = 2 - config.trainer.workers
        write_config(attempts.folder, config)
        return attempts.start()

    def kill_early() -> None:  # perhaps before training starts
        process = start()
        time.sleep(chance.uniform(0, 0.5))
        attempts.kill(process)

    kill_early()
    kills = 0
    while (reached := attempts.step()) < 45:
        process = start()
        attempts.wait_for_step(reached + chance.randint(1, 14))
        if kills % 2:
            stop_while_writing(process, attempts.checkpoints)
        else:
            time.sleep(chance.uniform(0, 0.03))
        attempts.kill(process)
        kills += 1
        if kills == 2:  # which costs the run a step
            path, _ = last_checkpoint(attempts.checkpoints)
            path.write_bytes(path.read_bytes()[:-100] + bytes(100))
        with (attempts.folder / "metrics.jsonl").open("a") as metrics:
            metrics.write('{"step": 5, "lo')  # half a line
        if chance.random() < 0.3:
            kill_early()
    assert kills > 2
    assert any("was changed since it was written; set aside" in line for line in attempts.said())

    # Between the end of training and the record.
    process = start()
    wait_until(lambda: any("validating" in line for line in attempts.said()))
    attempts.kill(process)
    assert attempts.record()["state"] == "running"
    assert attempts.finish() == 0


@pytest.mark.slow
def test_a_signal_ends_a_run_after_its_step(tmp_path, config):
    config.trainer.checkpoint_minutes = 0
    config.trainer.keep_checkpoints = 1
    config.trainer.workers = 1
    undisturbed, attempts = Attempts(tmp_path / "undisturbed", config), Attempts(tmp_path / "run", config)
    assert undisturbed.finish() == 0
    metrics = attempts.folder / "metrics.jsonl"
    reached = 0
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        lines = metrics.read_text().count("\n") if reached else 0
        process = attempts.start()
        wait_until(lambda more=lines: metrics.exists() and metrics.read_text().count("\n") > more)
        # Slurm signals every process of a job, those that read batches too, and the supervisor then passes it on.
        for pid in (*children(process.pid), process.pid, process.pid):
            os.kill(pid, number)
            time.sleep(0.005)  # or two would be one
        process.join(60)
        assert process.exitcode == INTERRUPTED
        assert attempts.step() > reached
        reached = attempts.step()
        assert attempts.said()[-1] == f"run  interrupted at step {reached}; the same command goes on from here"
    assert attempts.finish() == 0
    assert attempts.outcome() == undisturbed.outcome()


def _fail_later(self, batch, batch_idx, training_step=LanguageModel.training_step):
    """What a step does in whose second micro-batch, and the 17th step is the first, memory runs out once."""
    if batch_idx == 3 * 16 + 1 and not torch.rand(1).isnan():
        raise MemoryError("made up")
    return training_step(self, batch, batch_idx)


@pytest.mark.slow
def test_a_run_that_fails_in_a_step_goes_on_from_the_one_before(tmp_path, config):
    config.trainer.checkpoint_minutes = 0
    config.trainer.keep_checkpoints = 1
    undisturbed, attempts = Attempts(tmp_path / "undisturbed", config), Attempts(tmp_path / "run", config)
    assert undisturbed.finish() == 0
    assert attempts.finish(training_step=_fail_later) == 1
    assert attempts.step() == 16
    assert "run  fails after step 16; the same command goes on from there" in attempts.said()
    assert attempts.said()[-1] == "MemoryError: made up"
    before = {path: path.read_bytes() for path in attempts.checkpoints.iterdir()}
    assert attempts.finish(training_step=_fail_later) == 1
    assert before == {path: path.read_bytes() for path in attempts.checkpoints.iterdir()}
    assert attempts.finish() == 0
    assert attempts.outcome() == undisturbed.outcome()


def test_a_second_signal_ends_a_run_at_once(attempts):
    process = attempts.start()
    attempts.wait_for_step(3)
    stop_while_writing(process, attempts.checkpoints)
    os.kill(process.pid, signal.SIGTERM)
    time.sleep(1.2)
    os.kill(process.pid, signal.SIGCONT)
    os.kill(process.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == INTERRUPTED
    assert torch.load(last_checkpoint(attempts.checkpoints)[0], weights_only=True)["global_step"] == attempts.step()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_signal_during_imports_ends_a_worker_at_once(attempts, tmp_path):
    (tmp_path / "lightning.py").write_text("import time; time.sleep(600)")
    process = subprocess.Popen(
        [sys.executable, "-m", "sla_ablate.training.worker", str(attempts.folder)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    status = Path(f"/proc/{process.pid}/status")

    def caught() -> bool:  # the signals that the process has a handler for
        masks = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("SigCgt")]
        return bool(int(masks[0], 16) >> (signal.SIGTERM - 1) & 1)

    wait_until(caught)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == INTERRUPTED
    assert not attempts.checkpoints.exists()


@pytest.mark.slow
def test_a_full_disk_ends_a_run_with_one_line_and_keeps_what_there_was(attempts):
    process = attempts.start()
    attempts.wait_for_step(5)
    attempts.kill(process)
    before = attempts.step()
    limit = last_checkpoint(attempts.checkpoints)[0].stat().st_size // 2
    said = len(attempts.said())
    assert attempts.finish(file_bytes=limit) == 1
    *_, line, last = attempts.said()
    ckpt = attempts.checkpoints / f"step-{before + 1:08d}.ckpt"
    assert line == last == f"run  {ckpt}: {os.strerror(errno.EFBIG)}"
    assert not any("Traceback" in line for line in attempts.said()[said:])
    assert attempts.step() == before
    assert not any(attempts.folder.rglob(".*"))
    assert attempts.finish() == 0


def test_a_vanished_folder_ends_a_run_with_one_line_and_does_not_come_back(attempts):
    process = attempts.start()
    attempts.wait_for_step(5)
    attempts.folder.rename(attempts.folder.with_name("elsewhere"))
    process.join(60)
    assert process.exitcode == 1
    assert attempts.said()[-1].endswith(f": {os.strerror(errno.ENOENT)}")
    assert not any("Traceback" in line for line in attempts.said())
    assert not attempts.folder.exists()


def test_a_record_that_vanished_does_not_come_back(attempts):
    process = attempts.start()
    attempts.wait_for_step(5)
    (attempts.folder / "record.json").unlink()
    process.join(60)
    assert process.exitcode == 1
    assert attempts.said()[-1].endswith("it holds no record.json")
    assert not (attempts.folder / "record.json").exists()


def test_a_read_only_folder_is_one_line(attempts, monkeypatch, capfd):
    """Root may write anywhere, so the refusal is made up."""

    def refuse(**options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), options["dir"])

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    monkeypatch.setattr(worker.Interruption, "listen", lambda self: None)  # it is this process's signals
    with pytest.raises(SystemExit, match="1"):
        worker.main([str(attempts.folder)])
    assert capfd.readouterr().err == f"run  {attempts.folder / 'record.json'}: Permission denied\n"
    assert attempts.record() == attempts.entered


def test_checkpoints_hold_no_code(attempts, tmp_path):
    process = attempts.start()
    attempts.wait_for_step(3)
    attempts.kill(process)
    path, _ = last_checkpoint(attempts.checkpoints)
    assert torch.load(path, weights_only=True)["global_step"] == attempts.step()

    AtomicCheckpointIO().save_checkpoint({"code": Path}, tmp_path / "code.ckpt")
    with pytest.raises(InputError, match="is no checkpoint of this program"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "code.ckpt")


def test_metrics_that_were_shortened_are_not_made_up(attempts):
    process = attempts.start()
    attempts.wait_for_step(10)
    attempts.kill(process)
    (attempts.folder / "metrics.jsonl").unlink()
    assert attempts.finish() == 0
    assert any("metrics.jsonl is missing, or was changed since" in line for line in attempts.said())
    assert "run  there is no other checkpoint; the run begins again" in attempts.said()
    assert [line["step"] for line in attempts.outcome()["metrics"]][:2] == [7, 14]


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "keep_best"), [(0, False), (2, True)])
def test_disk_use_is_what_was_foretold(tmp_path, config, keep, keep_best):
    config.optim.steps = 8
    config.optim.warmup_steps = 0
    config.model.n_embd = 128  # so that what a file has beside numbers is small
    config.trainer.validate_every, config.trainer.keep_checkpoints, config.trainer.keep_best = 4, keep, keep_best
    attempts = Attempts(tmp_path / "run", config)
    foretold = disk_bytes(config.gpt_config(prepare(config.data).tokenizer.vocab_size), config.trainer)

    def used() -> int:
        total = 0
        for path in attempts.folder.rglob("*"):
            try:
                total += path.stat().st_size if path.is_file() else 0
            except FileNotFoundError:
                pass
        return total

    process = attempts.start()
    most = 0
    while process.is_alive():
        most = max(most, used())
    assert process.exitcode == 0
    assert used() == pytest.approx(foretold.done, rel=0.05)
    assert most < foretold.running * 1.05
    assert len(list(attempts.checkpoints.glob("*.ckpt"))) == keep
    shutil.rmtree(attempts.folder)


def test_the_best_model_is_that_of_all_attempts(tmp_path, monkeypatch):
    losses = iter([3.0, 1.0, 2.0, 0.5])
    one = {"tokens": [1], "bytes": [1]}
    monkeypatch.setattr(validation, "document_nll", lambda *_, **__: {"nll": [next(losses)], **one})
    saved = []

    def attempt() -> validation.Validation:
        metrics = Metrics(tmp_path / "metrics.jsonl")
        return validation.Validation(metrics, print, None, 10, save_best=lambda _: saved.append(step))

    first, second = attempt(), attempt()
    for step in (10, 20):
        first.validate(None, step)
    second.load_state_dict(first.state_dict())
    for step in (30, 40):
        second.validate(None, step)
    assert saved == [10, 20, 40]


@pytest.mark.slow
def test_seconds_and_memory_are_those_of_all_attempts(attempts):
    process = attempts.start()
    attempts.wait_for_step(20)
    attempts.kill(process)
    (path, _) = last_checkpoint(attempts.checkpoints)
    state = torch.load(path, weights_only=True)
    before = state["callbacks"]["Usage"]
    assert before["seconds"] > 0
    state["callbacks"]["Usage"] = {"seconds": before["seconds"] + 1000, "peak_memory_bytes": 10**12}
    AtomicCheckpointIO().save_checkpoint(state, path)
    assert attempts.finish() == 0
    cost = attempts.record()["cost"]
    assert 1000 + before["seconds"] < cost["seconds"] < 2000  # each attempt counts once
    assert cost["tokens_per_second"] == cost["tokens"] / cost["seconds"]
    assert cost["peak_memory_bytes"] == 10**12
