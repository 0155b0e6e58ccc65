"""Training: the LightningModule that hosts any pattern, its optimizer and its schedule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Sampler

from sla_ablate.config.schema import OptimConfig, RunConfig
from sla_ablate.data.batches import TrainingBatches
from sla_ablate.data.shards import TokenShards
from sla_ablate.model.config import GPTConfig
from sla_ablate.model.gpt import GPT
from sla_ablate.patterns import SkipPattern
from sla_ablate.processes.signals import in_data_worker


class LanguageModel(L.LightningModule):
    """Trains a GPT, whatever its pattern; the runs of the harness are of this module too.

    A batch is token ids [B, T + 1], T at most the model's block size: each token but the first is predicted from those
    before it in its row. `validation_loss` is a mean over tokens, in nats, without label smoothing.

    Args:
        model: with its initial weights; or the `model` of this module's hyperparameters, for one with fresh weights.
        optim: the optimizer and its schedule, or its fields; the batch size is the data loader's. None: the defaults.
    """

    def __init__(self, model: GPT | Mapping[str, Any], optim: OptimConfig | Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.model = model if isinstance(model, GPT) else _with_fresh_weights(**model)
        self.optim = optim if isinstance(optim, OptimConfig) else OptimConfig(**(optim or {}))
        pattern = self.model.pattern
        described = {
            "config": asdict(self.model.config),
            "key_source": pattern.key_source.tolist(),
            "value_source": pattern.value_source.tolist(),
        }
        self.save_hyperparameters({"model": described, "optim": asdict(self.optim)})

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, T] -> logits [B, T, V]."""
        logits: Tensor = self.model(tokens)
        return logits

    def training_step(self, batch: Tensor, batch_idx: int) -> dict[str, Tensor]:
        """Mean cross-entropy of one micro-batch, nats per token, as `loss`, which Lightning divides, and as `nats`.

        Logs it as `loss`, with label smoothing; `lr` is logged when the optimizer steps.
        """
        loss: Tensor = self.model(batch[:, :-1], batch[:, 1:], self.optim.label_smoothing)
        nats = loss.detach()
        self.log("loss", nats)
        return {"loss": loss, "nats": nats}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the learning rate of this step: after it, the schedule has set the next one's."""
        self.log("lr", optimizer.param_groups[0]["lr"])

    def validation_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Mean cross-entropy of a batch, nats per token; logs `validation_loss`, the mean over all tokens."""
        loss = self.model.nll(batch[:, :-1], batch[:, 1:]).mean()
        self.log("validation_loss", loss, batch_size=len(batch) * (batch.shape[1] - 1), sync_dist=True)
        return loss

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Negative log-likelihood of each token but the first of its row, [B, T] in nats."""
        return self.model.nll(batch[:, :-1], batch[:, 1:])

    def configure_gradient_clipping(self, optimizer: Any, *unused: Any, **also_unused: Any) -> None:
        """Clip the norm of the whole gradient.

        Here because Lightning refuses to clip for a fused optimizer under autocast, which only a gradient
        scaler would make wrong; bfloat16 needs none.
        """
        if self.optim.grad_clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.optim.grad_clip)

    def configure_optimizers(self) -> Any:
        """AdamW, and the schedule stepped once per optimizer step."""
        optimizer = adamw(self.model, self.optim)
        scheduler = LambdaLR(optimizer, lambda step: learning_rate(step, self.optim) / self.optim.lr)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _with_fresh_weights(config: Mapping[str, Any], key_source: list[list[int]], value_source: list[list[int]]) -> GPT:
    return GPT(GPTConfig(**config), SkipPattern.from_tables(key_source, value_source))


def adamw(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices and embeddings, but neither biases nor layer norms; fused kernels."""
    decayed, others = decayed_and_not(model)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    fused = decayed[0].device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.betas[0], config.betas[1]), fused=fused)


def decayed_and_not(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices and embeddings, and biases and layer norms, in the order in which the optimizer numbers them."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [p for p in parameters if p.dim() >= 2], [p for p in parameters if p.dim() < 2]


def learning_rate(step: int, config: OptimConfig) -> float:
    """Learning rate of optimizer step `step` (from 0): linear warm-up, then half a cosine down to min_lr."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - 1 - config.warmup_steps)
    return config.min_lr + (config.lr - config.min_lr) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


class CountingSampler(Sampler[int]):
    """The micro-batch indices of a run from `start` on: what a batch holds depends on its index alone.

    Its length is that of the whole run, `stop`: Lightning counts the batches of earlier attempts too.
    """

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop

    def __len__(self) -> int:
        return self.stop

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.stop))


def training_loader(config: RunConfig, shards: TokenShards, step: int = 0, rank: int = 0) -> DataLoader[Tensor]:
    """The run's training batches in order, from optimizer step `step` on: of each batch the rank's share."""
    o, block_size, world_size = config.optim, config.model.block_size, config.trainer.devices
    batches = TrainingBatches(shards.train, config.seed, o.batch_size, block_size, o.micro_batches, rank, world_size)
    # A generator of its own: the loader must not draw from the stream that dropout uses.
    return DataLoader(
        batches,
        batch_size=None,
        sampler=CountingSampler(step * o.micro_batches, o.steps * o.micro_batches),
        num_workers=config.trainer.workers,
        worker_init_fn=in_data_worker,
        generator=torch.Generator().manual_seed(config.seed),
    )


def build_model(config: RunConfig, vocab_size: int) -> GPT:
    """The run's model with its initial weights: a function of the shape and the seed, not of the pattern."""
    model = GPT(config.gpt_config(vocab_size), config.skip_pattern())
    model.init_weights(config.seed)
    return model
