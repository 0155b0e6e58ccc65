"""How fast this machine trains a model, from some steps of it."""

from __future__ import annotations

import time

import torch

from sla_ablate.config.schema import RunConfig
from sla_ablate.training.machine import device_type, keep_freed_memory
from sla_ablate.training.module import build_model

_WARM_UP, _SECONDS = 2, 3.0


def tokens_per_second(config: RunConfig, vocab_size: int) -> float:
    """Tokens a second of one run's training steps, on random tokens; takes some seconds.

    Data, logging and the start of a process are left out, and other runs beside it: an estimate.
    """
    device = device_type(config.trainer)
    torch.set_num_threads(config.trainer.threads)
    keep_freed_memory()
    model = build_model(config, vocab_size).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    sequences = config.optim.batch_size // config.optim.micro_batches
    tokens = torch.randint(vocab_size, (sequences, config.model.block_size + 1), device=device)

    def step() -> float:
        started = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=config.trainer.precision == "bf16"):
            loss = model(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    for _ in range(_WARM_UP):
        step()
    times = [step()]
    while sum(times) < _SECONDS:
        times.append(step())
    return sequences * config.model.block_size / sorted(times)[len(times) // 2]
