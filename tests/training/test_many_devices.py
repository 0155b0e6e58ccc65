"""One run on several devices, here processes on the CPU: the same losses, and ends as well as a run on one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from test_resume import Attempts, children, last_checkpoint, wait_until

from sla_ablate.config.schema import ModelConfig, OptimConfig, PatternConfig, RunConfig, TrainerConfig
from sla_ablate.data.config import DataConfig
from sla_ablate.errors import InputError
from sla_ablate.processes.signals import INTERRUPTED
from sla_ablate.runs.record import read_config

STEPS = 24
ROUNDING = 2e-6
"""Relative, in float32, after all the steps: sums in another order, magnified by the optimizer."""


@pytest.fixture
def config(small_corpus):
    return RunConfig(
        model=ModelConfig(n_layer=3, n_head=2, n_embd=32, block_size=32),
        pattern=PatternConfig("sla", distance=1),
        data=DataConfig(path=str(small_corpus), tokenizer="bytes", cache=str(small_corpus.parent / "cache")),
        optim=OptimConfig(steps=STEPS, batch_size=8, micro_batches=2, warmup_steps=5),
        trainer=TrainerConfig(
            accelerator="cpu", precision="fp32", log_every=1, validate_every=10, keep_checkpoints=1, keep_best=True
        ),
    )  # fmt: skip


@pytest.fixture
def start(tmp_path, config):
    """A folder for a run on so many devices."""

    def start(name, devices=1, strategy="ddp"):
        config.trainer.devices, config.trainer.strategy = devices, strategy
        return Attempts(tmp_path / name, config)

    return start


def assert_equal_but_for_rounding(actual: dict, expected: dict) -> None:
    """Outcomes of runs without dropout."""
    assert actual["files"] == expected["files"]
    assert actual["tokens"] == expected["tokens"]
    assert shape(actual["optimizer"]) == shape(expected["optimizer"])
    assert len(actual["metrics"]) == len(expected["metrics"])
    for a, b in zip(actual["metrics"], expected["metrics"], strict=True):
        assert a == pytest.approx(b, rel=ROUNDING)
    nll = expected["results"]["validation"]["nll"]
    assert actual["results"]["validation"]["nll"] == pytest.approx(nll, rel=ROUNDING)


def shape(value):
    """Of nested containers, numbers aside."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return [shape(each) for each in value] if isinstance(value, list) else type(value)


def go_on(attempts: Attempts, devices: int, strategy: str = "ddp") -> None:
    """Have the next attempt use other devices."""
    text = (attempts.folder / "config.yaml").read_text()
    lines = [
        f"  devices: {devices}" if line.startswith("  devices:")
        else f"  strategy: {strategy}" if line.startswith("  strategy:") else line
        for line in text.splitlines()
    ]  # fmt: skip
    (attempts.folder / "config.yaml").write_text("\n".join(lines))


def wait_for_lines(attempts: Attempts, more: int) -> None:
    metrics = attempts.folder / "metrics.jsonl"

    def count() -> int:
        return metrics.read_text().count("\n") if metrics.exists() else 0

    before = count() if attempts.checkpoints.exists() else 0
    wait_until(lambda: count() > before + more)


def wait_for_rank(process) -> int:
    """Until it is there, its process id."""
    wait_until(lambda: children(process.pid))
    return children(process.pid)[0]


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_two_devices_train_as_one_does(start):
    one, ddp, fsdp = start("one"), start("ddp", 2), start("fsdp", 2, "fsdp")
    for attempts in (one, ddp, fsdp):
        assert attempts.finish() == 0
    expected = one.outcome()
    path, _ = last_checkpoint(one.checkpoints)
    weights = torch.load(path, weights_only=True)["state_dict"]
    for attempts in (ddp, fsdp):
        assert_equal_but_for_rounding(attempts.outcome(), expected)
        assert attempts.record()["environment"]["devices"] == 2
        path, _ = last_checkpoint(attempts.checkpoints)
        others = torch.load(path, weights_only=True)["state_dict"]
        assert others.keys() == weights.keys()
        for name, weight in weights.items():
            torch.testing.assert_close(others[name], weight, rtol=0, atol=1e-5)
    assert "2 × cpu (fsdp)" in fsdp.said()[0]


@pytest.mark.slow
def test_checkpoints_move_between_one_device_and_many(start):
    undisturbed, moved = start("undisturbed"), start("moved")
    assert undisturbed.finish() == 0
    reached = 0
    for devices, strategy in ((1, "ddp"), (2, "fsdp"), (1, "ddp"), (2, "ddp"), (2, "fsdp")):
        go_on(moved, devices, strategy)
        process = moved.start()
        wait_for_lines(moved, more=1)
        os.kill(process.pid, signal.SIGTERM)
        process.join(60)
        assert process.exitcode == INTERRUPTED
        assert reached < moved.step() < STEPS
        reached = moved.step()
    go_on(moved, 1)
    assert moved.finish() == 0
    assert_equal_but_for_rounding(moved.outcome(), undisturbed.outcome())


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_all_ranks_stop_at_one_step_and_go_on_bit_for_bit(start, config, strategy):
    config.model.dropout = 0.2
    config.optim.micro_batches = 1
    config.trainer.workers = 1
    config.trainer.log_every = 3  # a checkpoint holds losses that are not told yet
    undisturbed, attempts = start("undisturbed", 2, strategy), start("run", 2, strategy)
    assert undisturbed.finish() == 0
    process = attempts.start()
    wait_for_lines(attempts, more=1)
    # As Slurm does, and the supervisor after it.
    for pid in (*children(process.pid), process.pid, process.pid):
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.005)
    process.join(60)
    assert process.exitcode == INTERRUPTED
    assert 0 < attempts.step() < STEPS
    line = f"run  interrupted at step {attempts.step()}; the same command goes on from here"
    assert attempts.said().count(line) == 2  # for the terminal and for the log
    first, second = torch.load(last_checkpoint(attempts.checkpoints)[0])["callbacks"]["RandomState"]["ranks"]
    assert not torch.equal(first["cpu"], second["cpu"])
    assert attempts.finish() == 0
    assert attempts.outcome() == undisturbed.outcome()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a rank outlives a killed one until it needs it")
def test_no_rank_outlives_another(start):
    attempts = start("run", 2)
    process = attempts.start()
    rank = wait_for_rank(process)
    wait_for_lines(attempts, more=2)
    os.kill(rank, signal.SIGKILL)
    process.join(60)
    assert process.exitcode == 1
    assert attempts.said()[-1] == "run  rank 1 was ended by signal 9: Killed"

    process = attempts.start()
    rank = wait_for_rank(process)
    wait_for_lines(attempts, more=2)
    attempts.kill(process)
    wait_until(lambda: not exists(rank))
    assert attempts.finish() == 0


def test_what_every_rank_finds_wrong_is_one_line(start):
    attempts = start("run", 2)
    attempts.checkpoints.mkdir()
    path = attempts.checkpoints / "step-00000003.ckpt"
    path.write_bytes(b"not a checkpoint")
    assert attempts.finish() == 1
    assert attempts.said()[-1] == f"run  {path} is no checkpoint of this program; remove it and run the same command"
    assert not any("Traceback" in line for line in attempts.said())


@pytest.mark.slow
def test_a_multirun_has_one_folder_a_run(tmp_path, small_corpus):
    tiny = [
        "model.n_layer=3", "model.n_head=2", "model.n_embd=16", "model.block_size=16", "data.tokenizer=bytes",
        f"data.path={small_corpus}", f"data.cache={small_corpus.parent / 'cache'}", "trainer.precision=fp32",
        "optim.steps=4", "optim.batch_size=2", "optim.warmup_steps=1", "trainer.log_every=1", "trainer.accelerator=cpu",
    ]  # fmt: skip

    done = subprocess.run(
        [sys.executable, "-m", "sla_ablate", "train", "-m", *tiny, "trainer=ddp", "seed=0,1"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "2 done")
    (sweep,) = (tmp_path / "runs").iterdir()
    first, second = sorted(sweep.iterdir())
    assert losses(first) != losses(second)
    for folder in first, second:
        config = read_config(folder)
        assert config.trainer.devices == 2
        config.trainer.devices = 1
        alone = Attempts(tmp_path / folder.name, config)
        assert alone.finish() == 0
        assert losses(folder) == pytest.approx(losses(alone.folder), rel=ROUNDING)


def losses(folder) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"devices": 0}, "trainer.devices=0 is not possible; choose 1 to 1024"),
        ({"devices": 3}, "micro_batches=2 times trainer.devices=3 does not divide .*; .* such as 12"),
        ({"devices": 2, "strategy": "fspd"}, "trainer.strategy 'fspd' is unknown; .*did you mean 'fsdp'"),
    ],
)
def test_impossible_devices_are_one_line(config, values, message):
    for name, value in values.items():
        setattr(config.trainer, name, value)
    with pytest.raises(InputError, match=message):
        config.check()
