"""Runs whose loss stops being a number, against the same training written out: real worker processes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_resume import EVERY_STEP, Attempts

from sla_ablate.config.schema import ModelConfig, OptimConfig, PatternConfig, RunConfig, TrainerConfig
from sla_ablate.data.config import DataConfig
from sla_ablate.data.shards import prepare
from sla_ablate.runs.record import write_record
from sla_ablate.training.divergence import DivergedError, check_weights
from sla_ablate.training.evaluation import document_nll
from sla_ablate.training.module import build_model

STEPS, B, T, LR = 8, 4, 16, 1e6


@pytest.fixture
def config(small_corpus):
    """No clipping, and a learning rate that float32 survives for four steps."""
    return RunConfig(
        model=ModelConfig(n_layer=2, n_head=2, n_embd=16, block_size=T),
        pattern=PatternConfig("sla", distance=1),
        data=DataConfig(path=str(small_corpus), tokenizer="bytes", cache=str(small_corpus.parent / "cache")),
        optim=OptimConfig(STEPS, B, lr=LR, min_lr=LR, warmup_steps=4, weight_decay=0.0, grad_clip=0.0),
        trainer=TrainerConfig(accelerator="cpu", precision="fp32", log_every=1),
    )  # fmt: skip


@pytest.fixture
def expected(config):
    return by_hand(config)


def by_hand(config):
    """The training loss of each step and the validation loss after it, up to the first training loss that is lost."""
    shards = prepare(config.data)
    tokens = shards.train.tolist()
    model = build_model(config, 257)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.0)
    losses, validation = [], []
    for step in range(STEPS):
        draws = np.random.Philox(key=config.seed, counter=[0, step, 0, 0]).random_raw(B)
        starts = [int(draw) % (len(tokens) - T) for draw in draws]
        rows = torch.tensor([tokens[start : start + T + 1] for start in starts])
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        losses.append(loss.item())
        if not math.isfinite(loss.item()):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = LR * min(1, (step + 1) / 4)
        optimizer.step()
        validation.append(sum(document_nll(model, shards)["nll"]))
    assert 1 < len(losses) < STEPS
    return losses, validation


def lost(losses):
    """The first step, counted from 1, after which a loss is not finite."""
    return 1 + np.isfinite(losses).tolist().index(False)


def refuse(name):
    raise ValueError(f"{name} is not JSON")


def assert_diverged(attempts, kind, step):
    error = f"the {kind} loss is not finite at step {step}"
    record = json.loads((attempts.folder / "record.json").read_text(), parse_constant=refuse)
    assert (record["state"], record["error"], record["diverged_at_step"]) == ("diverged", error, step)
    assert attempts.said().count(f"run  diverged: {error}") == 2  # for the terminal and for the log
    assert not any("Traceback" in line for line in attempts.said())
    assert not list(attempts.folder.rglob("*.safetensors"))
    assert not (attempts.folder / "results.json").exists()
    text = (attempts.folder / "metrics.jsonl").read_text()
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("log_every", "micro_batches", "devices"), [(1, 1, 1), (3, 2, 1), (1, 1, 2)], ids=["plain", "accumulated", "ranks"]
)
def test_a_run_ends_at_the_first_logged_loss_that_is_no_number(
    tmp_path, config, expected, log_every, micro_batches, devices
):
    config.trainer.log_every, config.optim.micro_batches, config.trainer.devices = log_every, micro_batches, devices
    attempts = Attempts(tmp_path / "run", config)
    assert attempts.finish() == 0
    losses, _ = expected
    step = -(-lost(losses) // log_every) * log_every
    lines = assert_diverged(attempts, "training", step)
    assert [line["step"] for line in lines] == list(range(log_every, step + 1, log_every))
    assert lines[-1]["loss"] is None
    means = [np.mean(losses[line["step"] - log_every : line["step"]]) for line in lines[:-1]]
    assert [line["loss"] for line in lines[:-1]] == pytest.approx(means, rel=1e-3)
    assert not list(attempts.checkpoints.iterdir())


def test_all_ranks_end_when_the_one_that_validates_finds_no_number(tmp_path, config, expected):
    config.trainer.log_every, config.trainer.validate_every, config.trainer.devices = STEPS, 1, 2
    attempts = Attempts(tmp_path / "run", config)
    assert attempts.finish() == 0
    lines = assert_diverged(attempts, "validation", lost(expected[1]))
    assert lines[-1]["validation_loss"] is lines[-1]["validation_perplexity"] is None


def test_a_model_that_the_last_step_lost_is_not_kept(tmp_path, config, expected):
    config.optim.steps = lost(expected[1])
    attempts = Attempts(tmp_path / "run", config)
    assert attempts.finish() == 0
    assert_diverged(attempts, "validation", config.optim.steps)


def test_a_killed_run_diverges_at_the_same_step(tmp_path, config, expected):
    config.trainer.checkpoint_minutes, config.trainer.keep_checkpoints = EVERY_STEP, STEPS
    attempts = Attempts(tmp_path / "run", config)
    assert attempts.finish() == 0
    step = lost(expected[0])
    before = assert_diverged(attempts, "training", step)
    write_record(attempts.folder, attempts.entered)
    attempts.log.unlink()
    assert attempts.finish() == 0
    assert f"run  goes on from step {step - 1}" in attempts.said()
    after = assert_diverged(attempts, "training", step)
    assert [line["loss"] for line in after] == [line["loss"] for line in before]


def test_a_weight_that_nothing_reads_counts_too(config):
    model = build_model(config, 257)
    check_weights(model, 3)
    layer, head = np.argwhere(~model.pattern.keys_read)[0]
    width = config.model.n_embd // config.model.n_head
    with torch.no_grad():
        model.h[layer].attn.c_attn.weight[config.model.n_embd + head * width, 0] = math.inf
    assert np.isfinite(document_nll(model, prepare(config.data))["nll"]).all()
    with pytest.raises(DivergedError, match=rf"the weight h\.{layer}\.attn\.c_attn\.weight is not finite at step 3"):
        check_weights(model, 3)
