"""What a run logs and ends with, against training written out once more: batches, schedule, clipping and AdamW."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from test_resume import EVERY_STEP, Attempts

from sla_ablate.config.schema import ModelConfig, OptimConfig, PatternConfig, RunConfig, TrainerConfig
from sla_ablate.data.config import DataConfig
from sla_ablate.data.shards import prepare
from sla_ablate.training.evaluation import document_nll
from sla_ablate.training.module import build_model

STEPS, WARMUP, B, T = 10, 4, 6, 16
PEAK, LAST = 1e-2, 2e-3
CLIP = 0.5  # acts at every step


def make_config(small_corpus):
    return RunConfig(
        model=ModelConfig(n_layer=3, n_head=2, n_embd=16, block_size=T),
        pattern=PatternConfig("sla", distance=1),
        data=DataConfig(path=str(small_corpus), tokenizer="bytes", cache=str(small_corpus.parent / "cache")),
        optim=OptimConfig(STEPS, B, lr=PEAK, min_lr=LAST, warmup_steps=WARMUP, weight_decay=0.2, grad_clip=CLIP),
        trainer=TrainerConfig(
            accelerator="cpu", precision="fp32", log_every=3, validate_every=4, checkpoint_minutes=EVERY_STEP,
            keep_checkpoints=STEPS,
        ),
        seed=3,
    )  # fmt: skip


@pytest.fixture
def config(small_corpus):
    return make_config(small_corpus)


@pytest.fixture(scope="module")
def expected(small_corpus):
    return by_hand(make_config(small_corpus))


def learning_rate(step):
    """Of the step after so many: a line up to the peak, then half a period of a cosine that ends at the last step."""
    if step < WARMUP:
        return PEAK * (step + 1) / WARMUP
    return LAST + (PEAK - LAST) * math.cos(math.pi / 2 * (step - WARMUP) / (STEPS - 1 - WARMUP)) ** 2


def by_hand(config):
    """The loss of every step, the validation loss after steps 4, 8 and 10, and the model in the end; in float64."""
    shards = prepare(config.data)
    tokens = shards.train.tolist()
    model = build_model(config, 257).double()
    moments = {p: (torch.zeros_like(p), torch.zeros_like(p)) for p in model.parameters()}
    losses, validation_losses = [], []
    for step in range(STEPS):
        draws = np.random.Philox(key=config.seed, counter=[0, step, 0, 0]).random_raw(B)
        starts = [int(draw) % (len(tokens) - T) for draw in draws]
        rows = torch.tensor([tokens[start : start + T + 1] for start in starts])
        model.zero_grad()
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters()))
        assert norm > CLIP
        with torch.no_grad():
            for p, (m, v) in moments.items():
                g = p.grad * CLIP / norm
                m.lerp_(g, 1 - 0.9)
                v.lerp_(g**2, 1 - 0.95)
                decay = 0.2 if p.dim() == 2 else 0  # neither biases nor layer norms
                update = m / (1 - 0.9 ** (step + 1)) / ((v / (1 - 0.95 ** (step + 1))).sqrt() + 1e-8)
                p -= learning_rate(step) * (update + decay * p)
        losses.append(loss.item())
        if step + 1 in (4, 8, 10):
            result = document_nll(model, shards)
            validation_losses.append(sum(result["nll"]) / sum(result["tokens"]))
    return losses, validation_losses, model


def forget_after(attempts, step):
    """Leave of a finished run what it would have left, had it been killed after a step."""
    for path in attempts.checkpoints.glob("*.ckpt"):
        if int(path.stem.removeprefix("step-")) > step:
            path.unlink()
    (attempts.folder / "record.json").write_text(json.dumps({**attempts.record(), "state": "running"}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("micro_batches", "devices", "resumed_at"),
    [(1, 1, None), (1, 1, 5), (3, 1, None), (3, 1, 5), (1, 2, None)],
    ids=["plain", "resumed", "accumulated", "accumulated and resumed", "two devices"],
)
def test_a_run_is_what_comes_out_by_hand(tmp_path, config, expected, micro_batches, devices, resumed_at):
    config.optim.micro_batches, config.trainer.devices = micro_batches, devices
    attempts = Attempts(tmp_path / "run", config)
    assert attempts.finish() == 0
    if resumed_at:
        forget_after(attempts, resumed_at)
        assert attempts.finish() == 0
        assert f"run  goes on from step {resumed_at}" in attempts.said()

    losses, validation_losses, model = expected
    lines = [json.loads(line) for line in (attempts.folder / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if "loss" in line]
    assert [line["step"] for line in logged] == [3, 6, 9, 10]
    assert [line["tokens"] for line in logged] == [B * T * step for step in (3, 6, 9, 10)]
    means = [np.mean(losses[a:b]) for a, b in ((0, 3), (3, 6), (6, 9), (9, 10))]
    assert [line["loss"] for line in logged] == pytest.approx(means, rel=1e-5)
    assert [line["lr"] for line in logged] == pytest.approx([learning_rate(step - 1) for step in (3, 6, 9, 10)])
    validated = {line["step"]: line["validation_loss"] for line in lines if "validation_loss" in line}
    assert validated == pytest.approx(dict(zip((4, 8, 10), validation_losses, strict=True)), rel=1e-5)

    assert attempts.record()["cost"]["tokens"] == B * T * STEPS
    state = torch.load(attempts.checkpoints / f"step-{STEPS:08d}.ckpt", weights_only=True)
    (optimizer,) = state["optimizer_states"]
    assert {int(moments["step"]) for moments in optimizer["state"].values()} == {STEPS}
    weights = load_file(attempts.checkpoints / "model.safetensors")
    assert weights.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(weights[name].double(), parameter.detach(), rtol=0, atol=1e-4, msg=name)
