"""The LightningModule in the hands of others, and the examples."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import lightning as L
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from sla_ablate import GPT, GPTConfig, LanguageModel, OptimConfig, SkipPattern
from sla_ablate.training.module import learning_rate

EXAMPLES = Path(__file__).parents[2] / "examples"
T, V, STEPS = 8, 11, 5


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A module trained by a user's trainer, its data, and where it logged."""
    torch.manual_seed(0)
    windows = torch.randint(V, (23, T + 1))  # the last batch is smaller
    model = GPT(
        GPTConfig(n_layer=3, n_head=2, n_embd=8, block_size=T, vocab_size=V), SkipPattern.skip_layer(3, 2, 1, 1)
    )
    module = LanguageModel(model, OptimConfig(steps=STEPS, warmup_steps=2, label_smoothing=0.1))
    trainer = L.Trainer(
        max_steps=STEPS, log_every_n_steps=1, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
        logger=CSVLogger(tmp_path_factory.mktemp("logs")),
    )  # fmt: skip
    batches = DataLoader(windows, batch_size=5)
    trainer.fit(module, batches, batches)
    return trainer, module, windows, batches


def test_what_training_logs(fitted):
    trainer, module, *_ = fitted
    logged = pd.read_csv(Path(trainer.log_dir) / "metrics.csv")
    rates = [learning_rate(step, module.optim) for step in range(STEPS)]
    assert logged["lr"].dropna().tolist() == pytest.approx(rates)
    assert logged["loss"].dropna().between(2, 3).sum() == STEPS


def test_validation_is_the_mean_over_tokens_without_label_smoothing(fitted):
    trainer, module, windows, batches = fitted
    expected = F.cross_entropy(module(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
    (result,) = trainer.validate(module, batches, verbose=False)
    assert result["validation_loss"] == pytest.approx(expected.item(), rel=1e-6)
    nll = torch.cat(trainer.predict(module, batches))
    assert nll.shape == (23, T)
    assert nll.mean().item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_checkpoint_is_enough_to_load_from(fitted, tmp_path):
    trainer, module, windows, _ = fitted
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = LanguageModel.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert (loaded.optim, loaded.model.config, loaded.model.pattern) == (
        module.optim, module.model.config, module.model.pattern
    )  # fmt: skip
    assert torch.equal(loaded(windows[:, :-1]), module(windows[:, :-1]))
    assert loaded.hparams == module.hparams


@pytest.mark.parametrize(("name", "least"), [("lightning_trainer", "validation"), ("plain_pytorch", "training")])
def test_examples(name, least, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    loss = re.search(rf"{least} loss (\S+) nats per token", capsys.readouterr().out)[1]
    assert float(loss) < 1.0  # ln 97 is 4.6
    assert len([line for line in (EXAMPLES / f"{name}.py").read_text().splitlines() if line.strip()]) <= 20
