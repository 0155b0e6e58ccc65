"""One attempt at a run: train from where the last one came to, evaluate, write the record."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path

import lightning as L
import numpy as np
import torch

from sla_ablate.config.schema import RunConfig
from sla_ablate.data.classes import ClassSums, TokenCounts
from sla_ablate.errors import InputError
from sla_ablate.files import remove_unfinished
from sla_ablate.model.gpt import GPT
from sla_ablate.patterns.costs import costs
from sla_ablate.processes.signals import INTERRUPTED, Interruption
from sla_ablate.runs.data import data_of_all
from sla_ablate.runs.digests import digests
from sla_ablate.runs.metrics import METRICS
from sla_ablate.runs.provenance import begin
from sla_ablate.runs.record import BEST, CHECKPOINT, existing_summary, read_config, write_record
from sla_ablate.runs.trained import digests_of, save_model
from sla_ablate.text.telling import Silence, Voice
from sla_ablate.training.callbacks.checkpoints import AtomicCheckpointIO, Checkpoints, keep_last, last_whole
from sla_ablate.training.callbacks.metrics import Metrics
from sla_ablate.training.callbacks.progress import Progress
from sla_ablate.training.callbacks.random_state import RandomState
from sla_ablate.training.callbacks.usage import Usage
from sla_ablate.training.callbacks.validation import Validation
from sla_ablate.training.compilation import compile_blocks
from sla_ablate.training.divergence import DivergedError, check_loss, check_weights
from sla_ablate.training.loggers import RunLoggers, opened
from sla_ablate.training.machine import LIGHTNING_PRECISIONS, device_type, environment, keep_freed_memory
from sla_ablate.training.module import LanguageModel, build_model, training_loader
from sla_ablate.training.ranks import Rank, gather, ranks
from sla_ablate.training.resumption import check_state
from sla_ablate.training.strategies import Ranks, strategy, whole


def attempt(folder: Path, interruption: Interruption, say: Voice) -> None:
    """Train and evaluate the run of a folder, from its last checkpoint if it has one.

    However often and wherever earlier attempts were ended, the result is that of a single one: bit for bit on one kind
    of processor; on a GPU as far as its kernels repeat themselves, which not all promise (README).

    A run that diverges ends, as `diverged`, without a model.

    Raises:
        SystemExit: with `INTERRUPTED`, when a signal asked for it while the run trained; a checkpoint is saved.
        OSError: a file of the run cannot be written.
    """
    config = read_config(folder)
    with ranks(config.trainer.devices, interruption, say) as rank:
        try:
            if rank.number == 0:
                with ExitStack() as closing:
                    with say.waiting(f"opening the logger {config.logger.name}"):
                        logger = closing.enter_context(opened(config, folder, say))
                    _attempt(folder, config, rank, logger, interruption, say)
            else:
                _attempt(folder, config, rank, None, interruption, Silence(folder.name))
        except DivergedError as error:
            rank.disconnect()
            if rank.number == 0:
                _end_as_diverged(folder, config, error)
                say(f"diverged: {error}")


def _end_as_diverged(folder: Path, config: RunConfig, error: DivergedError) -> None:
    record = existing_summary(folder)
    ending = {"state": "diverged", "error": str(error), "diverged_at_step": error.step}
    write_record(folder, record | ending | {"digests": digests(folder, [METRICS])})
    keep_last(folder / CHECKPOINT, config.trainer.keep_checkpoints)


def _attempt(
    folder: Path,
    config: RunConfig,
    rank: Rank,
    logger: RunLoggers | None,
    interruption: Interruption,
    say: Voice,
) -> None:
    started = time.perf_counter()
    record = existing_summary(folder)
    t = config.trainer
    torch.set_num_threads(t.threads)
    keep_freed_memory()
    L.seed_everything(_dropout_seed(config.seed, rank.number), verbose=False)

    (shards,) = data_of_all([folder], may_prepare=True)
    with say.waiting("building the model"):
        model = build_model(config, shards.tokenizer.vocab_size)
    if record["pattern"]["key_source"] != model.pattern.key_source.tolist() or (
        record["pattern"]["value_source"] != model.pattern.value_source.tolist()
    ):
        raise InputError(f"{config.pattern.name} gives other tables than when the run was entered; enter it again")
    device = device_type(t)
    with say.waiting("waiting for the other ranks"):
        rank.connect(device)
    trained_in = LIGHTNING_PRECISIONS[t.precision]

    checkpoints = folder / CHECKPOINT
    metrics = Metrics(folder / METRICS if rank.number == 0 else None, logger)
    check = partial(check_state, run=folder, run_id=record["run_id"], model=model)
    checkpoint, step = gather(last_whole(checkpoints, check, say) if rank.number == 0 else (None, 0))[0]
    if rank.number == 0:
        record.setdefault("data", {})["split_by"] = shards.manifest.get("split_by", "id")
        earlier = record.get("environment", {}) if checkpoint is not None else {}
        code = record["sittings"][-1] if "sittings" in record else begin(None)
        record["environment"] = {
            **environment(config, device, trained_in, earlier.get("processor")),
            **{name: value for name, value in code.items() if name.startswith("git_")},
        }
        write_record(folder, record)
        checkpoints.mkdir(exist_ok=True)
        remove_unfinished(folder)
        if checkpoint is None:
            (folder / METRICS).unlink(missing_ok=True)
    devices = f"{t.devices} × {device} ({t.strategy})" if t.devices > 1 else device
    say.note(f"{devices}, {trained_in}, {t.threads} thread(s)")
    if checkpoint is not None:
        say.note(f"goes on from step {step}")

    usage = Usage()
    tokens_per_step = config.optim.batch_size * config.model.block_size

    def save_best(model: GPT) -> None:
        (checkpoints / BEST).mkdir(exist_ok=True)
        save_model(model, shards, checkpoints / BEST)

    scored = config.evaluation.tokens
    sums = ClassSums(shards, TokenCounts.of(shards, scored), config.model.block_size)
    validation = Validation(metrics, say.note, shards, t.validate_every, scored, save_best if t.keep_best else None)
    trainer = L.Trainer(
        accelerator=device,  # not `auto`, for which Lightning may find a kind that is not supported, such as Apple's
        devices=t.devices,
        strategy=strategy(t),
        precision=trained_in,
        max_steps=config.optim.steps,
        max_epochs=1,
        accumulate_grad_batches=config.optim.micro_batches,
        callbacks=[
            RandomState(),
            usage,
            metrics,
            Progress(metrics, usage, say.note, t.log_every, tokens_per_step),
            validation,
            Checkpoints(checkpoints, record["run_id"], t.checkpoint_minutes, t.keep_checkpoints, interruption, say),
        ],
        plugins=[AtomicCheckpointIO(), Ranks(rank.number)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
    )
    model.checkpoint_activations = t.checkpoint_activations
    if t.compile:
        compile_blocks(model, say)
        say.note("layers are compiled in the first step")
    with interruption.training():
        language_model = LanguageModel(model, config.optim)
        # Validation is a callback's, which scores documents; without a loader Lightning would warn of that.
        trainer.fit(language_model, training_loader(config, shards, step, rank.number), [], ckpt_path=checkpoint)
    if interruption.requested:
        raise SystemExit(INTERRUPTED)

    model = whole(model)
    rank.disconnect()
    if rank.number > 0:
        return
    say.note("validating")
    loss, result = validation.validate(model.to(device), config.optim.steps, sums)
    check_loss("validation", loss, config.optim.steps)
    check_weights(model, config.optim.steps)
    save_model(model, shards, checkpoints)
    tokens = config.optim.steps * tokens_per_step
    record["cost"] = {
        **asdict(costs(model.config, model.pattern)),
        "tokens": tokens,
        "seconds": usage.seconds,
        "tokens_per_second": tokens / usage.seconds,
        "peak_memory_bytes": usage.peak_memory_bytes,
    }
    record["results"] = {"validation": result, "classes": sums.result()}
    record["state"] = "done"
    existing_summary(folder)  # else the run was removed, of which nothing is to come back
    record["digests"] = digests_of(folder)
    write_record(folder, record)
    keep_last(checkpoints, t.keep_checkpoints)
    say(f"done: validation loss {loss:.4f}, {time.perf_counter() - started:.0f} s")


def _dropout_seed(seed: int, rank: int) -> int:
    """Each rank draws other numbers, the first those of a single device."""
    return int(np.random.SeedSequence((seed, rank)).generate_state(1)[0]) if rank else seed
