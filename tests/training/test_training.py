from __future__ import annotations

import itertools

import lightning as L
import pytest
import torch

from sla_ablate.config.schema import ModelConfig, OptimConfig, PatternConfig, RunConfig, TrainerConfig
from sla_ablate.data.config import DataConfig
from sla_ablate.data.shards import prepare
from sla_ablate.training.evaluation import document_nll
from sla_ablate.training.module import LanguageModel, adamw, build_model, learning_rate, training_loader


@pytest.fixture
def config(small_corpus, tmp_path_factory):
    return RunConfig(
        model=ModelConfig(n_layer=3, n_head=2, n_embd=16, block_size=16),
        data=DataConfig(path=str(small_corpus), tokenizer="bytes", cache=str(small_corpus.parent / "cache")),
        optim=OptimConfig(steps=6, batch_size=4, warmup_steps=2, lr=1e-2),
        trainer=TrainerConfig(precision="fp32"),
    )


def fit(config, **trainer):
    shards = prepare(config.data)
    model = build_model(config, shards.tokenizer.vocab_size)
    losses = []

    class Losses(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            losses.append(outputs["loss"].item())

    L.Trainer(
        accelerator="cpu", max_steps=config.optim.steps, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[Losses()],
        accumulate_grad_batches=config.optim.micro_batches, **trainer,
    ).fit(LanguageModel(model, config.optim), training_loader(config, shards))  # fmt: skip
    return model, losses


def test_every_pattern_starts_from_the_same_weights_and_sees_the_same_batches(config):
    shards = prepare(config.data)
    seen = []
    for pattern in ("baseline", "sla", "window"):
        config.pattern = PatternConfig(pattern, distance=1)
        model = build_model(config, shards.tokenizer.vocab_size)
        seen.append((model.state_dict(), list(training_loader(config, shards))))
    (weights, batches), *others = seen
    assert len(batches) == 6
    for other_weights, other_batches in others:
        assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
        assert all(torch.equal(a, b) for a, b in zip(batches, other_batches, strict=True))


def test_the_seed_changes_weights_and_batches(config):
    shards = prepare(config.data)
    first = build_model(config, 257), next(iter(training_loader(config, shards)))
    config.seed = 1
    second = build_model(config, 257), next(iter(training_loader(config, shards)))
    assert not torch.equal(first[0].wte.weight, second[0].wte.weight)
    assert not torch.equal(first[1], second[1])


def test_batches_do_not_depend_on_workers(config):
    shards = prepare(config.data)
    alone = list(training_loader(config, shards))
    config.trainer.workers = 2
    assert all(torch.equal(a, b) for a, b in zip(alone, training_loader(config, shards), strict=True))


def test_a_run_repeats_bit_for_bit_and_learns(config):
    config.pattern = PatternConfig("sla", distance=1)
    config.optim.steps = 30
    (first, losses), (second, again) = fit(config), fit(config)
    assert losses == again
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    assert losses[-1] < losses[0] - 1


def test_schedule_warms_up_and_decays_to_the_last_step():
    o = OptimConfig(steps=100, warmup_steps=10, lr=1.0, min_lr=0.1)
    rates = [learning_rate(step, o) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[99] == pytest.approx(0.1)
    assert rates[54] == pytest.approx(0.55, abs=0.02)
    assert all(a >= b for a, b in itertools.pairwise(rates[9:]))


def test_biases_and_layer_norms_are_not_decayed(config):
    model = build_model(config, 257)
    decay = {id(p): g["weight_decay"] for g in adamw(model, config.optim).param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        expected = 0.0 if name.endswith("bias") or "ln_" in name else 0.1
        assert decay[id(parameter)] == expected, name


def test_label_smoothing_is_of_the_training_loss_only(config):
    config.optim.label_smoothing = 0.5
    shards = prepare(config.data)
    model = build_model(config, 257)
    batch = next(iter(training_loader(config, shards)))
    logits = model(batch[:, :-1]).flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, batch[:, 1:].flatten(), label_smoothing=0.5)
    loss = LanguageModel(model, config.optim).training_step(batch, 0)["loss"]
    torch.testing.assert_close(loss, expected)
    config.optim.label_smoothing = 0.0
    assert document_nll(model, shards) == document_nll(build_model(config, 257), shards)


def test_validation_scores_every_document_by_itself(config):
    """Against one document at a time, in windows cut by hand, with plain cross-entropy in float64."""
    shards = prepare(config.data)
    model = build_model(config, 257).double()
    result = document_nll(model, shards)
    assert (result["context_length"], result["stride"]) == (16, 16)
    for i, row in enumerate(shards.documents("validation").itertuples()):
        tokens = torch.from_numpy(shards.validation[row.start : row.start + row.tokens].astype("int64"))
        inputs = torch.cat([torch.tensor([256]), tokens[:-1]])
        nll = sum(
            torch.nn.functional.cross_entropy(model(x[None])[0], y, reduction="sum").item()
            for x, y in zip(inputs.split(16), tokens.split(16), strict=True)
        )
        assert result["nll"][i] == pytest.approx(nll, rel=1e-6)
        assert (result["documents"][i], result["tokens"][i]) == (row.id, len(tokens))
    assert len(result["nll"]) == i + 1
