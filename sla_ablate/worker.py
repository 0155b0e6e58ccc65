"""The process of one run: `python -m sla_ablate.worker RUN_FOLDER`.

It reads `config.yaml`, trains, evaluates and writes the record. Success is only what the record says.
"""

from __future__ import annotations

import logging
import platform
import resource
import subprocess
import sys
import time
import warnings
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml

from sla_ablate import precision
from sla_ablate.allocator import keep_freed_memory
from sla_ablate.callbacks.progress import Progress, append_line
from sla_ablate.callbacks.validation import Validation
from sla_ablate.config import RunConfig
from sla_ablate.costs import costs
from sla_ablate.data.shards import prepare
from sla_ablate.evaluation import document_nll
from sla_ablate.files import write_atomically
from sla_ablate.runs import Record, read_record, write_record
from sla_ablate.trained import CHECKPOINT, TOKENIZER
from sla_ablate.training import LanguageModel, build_model, training_loader


def run(folder: Path) -> None:
    """Train and evaluate the run of a folder, from its start."""
    started = time.perf_counter()
    config = RunConfig.from_dict(yaml.safe_load((folder / "config.yaml").read_text()))
    record = read_record(folder)
    assert record is not None
    torch.set_num_threads(config.trainer.threads)
    keep_freed_memory()
    L.seed_everything(config.seed, verbose=False)  # dropout's stream

    shards = prepare(config.data)
    model = build_model(config, shards.tokenizer.vocab_size)
    device = _device(config.trainer.accelerator)
    trained_in = precision.resolve(config.trainer.precision, device)
    record["environment"] = _environment(config, device, trained_in)
    write_record(folder, record)
    say(folder, f"{device}, {trained_in}, {config.trainer.threads} thread(s)")

    tokens_per_step = config.optim.batch_size * config.model.block_size
    metrics = folder / "metrics.jsonl"
    metrics.unlink(missing_ok=True)  # of an interrupted attempt, which starts again from its seed
    callbacks: list[L.Callback] = [
        Progress(metrics, lambda line: say(folder, line), config.trainer.log_every, tokens_per_step)
    ]
    if config.trainer.validate_every:
        callbacks.append(Validation(metrics, lambda line: say(folder, line), shards, config.trainer.validate_every))
    trainer = L.Trainer(
        accelerator=config.trainer.accelerator,
        devices=1,
        precision=trained_in,
        max_steps=config.optim.steps,
        max_epochs=1,
        accumulate_grad_batches=config.optim.micro_batches,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trained = time.perf_counter()
    trainer.fit(LanguageModel(model, config.optim, config.trainer.compile), training_loader(config, shards))
    seconds = time.perf_counter() - trained

    say(folder, "validating")
    result = document_nll(model, shards)
    nll = sum(result["nll"]) / sum(result["tokens"])
    append_line(metrics, step=config.optim.steps, validation_loss=nll)
    model.save(folder / CHECKPOINT)
    write_atomically(folder / CHECKPOINT / TOKENIZER, (shards.folder / TOKENIZER).read_bytes())

    tokens = config.optim.steps * tokens_per_step
    record["cost"] = {
        **asdict(costs(model.config, model.pattern)),
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "peak_memory_bytes": _peak_memory(device),
    }
    record["results"] = {"validation": result}
    record["state"] = "done"
    write_record(folder, record)
    say(folder, f"done: validation loss {nll:.4f}, {time.perf_counter() - started:.0f} s")


def say(folder: Path, line: str) -> None:
    """One line of progress, on the terminal and in the run's log."""
    line = f"{folder.name}  {line}"
    print(line, flush=True)
    print(line, file=sys.stderr, flush=True)


def _device(accelerator: str) -> str:
    if accelerator == "cpu":
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"


def _environment(config: RunConfig, device: str, trained_in: str) -> Record:
    names = ("sla-ablate", "torch", "lightning", "numpy", "tokenizers")
    return {
        "device": device,
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "cpu": _cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": config.trainer.threads,
        "precision": trained_in,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "git_commit": _git_commit(),
    }


def _git_commit() -> str | None:
    """Of the checkout that the package is run from; None where it is installed."""
    checkout = Path(__file__).parents[1]
    if not (checkout / ".git").exists():
        return None
    head = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True)
    return head.stdout.strip() or None


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _peak_memory(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main(arguments: list[Any]) -> None:
    """Entry point of the process."""
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    run(Path(arguments[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
