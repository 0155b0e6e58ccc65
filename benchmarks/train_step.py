"""Speed of one training step on a CPU: ours against two GPT-2s and the GEMM rate, patterns to the baseline.

    python benchmarks/train_step.py [--sizes 12x192,6x384] [--rounds 5] [--loss-steps 40]

The peers are a plain GPT-2 of PyTorch's own modules (`common.py`) and Hugging Face's. All models of a row have the
same shape, batch, optimizer (fused AdamW), clipping and precision. Each has a process of its own with one thread, ours
set up as a run is, the peers as they come; they take their steps in turn, so that a busy machine slows all of them, and
the fastest step of each counts. The GEMM rate is that of the size's own products
(x Wᵀ, g W and gᵀ x of the feed-forward layer) by the GEMM library that ours takes for them. `--loss-steps` trains ours
and Hugging Face's from the same weights on the same batches and prints both loss curves. Peak memory is that of the
process, less what it had before the model.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch
import torch.nn.functional as F
from common import PATTERNS, PlainGPT2, hugging_face
from transformers.utils import logging

from sla_ablate import GPT, GPTConfig, SkipPattern
from sla_ablate.config.schema import OptimConfig
from sla_ablate.model.cpu.linear import linear, multiply, multiply_transposed
from sla_ablate.patterns.costs import costs
from sla_ablate.training.machine import keep_freed_memory
from sla_ablate.training.module import adamw

SIZES = {  # name: (n_layer, n_head, n_embd, block_size, batch)
    "6x128": (6, 4, 128, 256, 8),
    "6x384": (6, 6, 384, 256, 8),
    "12x192": (12, 12, 192, 256, 8),
    "12x192@1024": (12, 12, 192, 1024, 2),
    "12x768": (12, 12, 768, 512, 2),
}
VOCAB = 4096
PEERS = ("hf", "plain")
Step = Callable[[torch.Tensor], float]


def shifted(tokens: torch.Tensor) -> torch.Tensor:
    """Targets as Hugging Face's `labels` make them: the next token, none at the last position."""
    return F.pad(tokens[:, 1:], (0, 1), value=-100)


def stepper(model: torch.nn.Module, bfloat16: bool) -> Step:
    """One optimizer step as a function of a batch [B, T]; returns the loss."""
    # Without warm-up, a higher rate would blow the last bits' difference up within steps.
    optimizer = adamw(model, OptimConfig(lr=3e-4))

    def step(tokens: torch.Tensor) -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            if isinstance(model, GPT | PlainGPT2):
                loss = model(tokens, shifted(tokens))
            else:
                loss = model(tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def gemm_rate(config: GPTConfig, rows: int, dtype: torch.dtype) -> float:
    """FLOP/s of the three products of the feed-forward layer, together; the best of ten."""
    C = config.n_embd
    x, g, w = (torch.randn(shape, dtype=torch.float32).to(dtype) for shape in ((rows, C), (rows, 4 * C), (4 * C, C)))
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        linear(x, w), multiply(g, w.T), multiply_transposed(g, x)
        best = min(best, time.perf_counter() - start)
    return 3 * 2 * rows * C * 4 * C / best


class Measured(NamedTuple):
    """What one model's training step took."""

    seconds: float
    """Seconds of the fastest step."""
    memory: int
    """Peak, in bytes."""


def build(name: str, config: GPTConfig) -> torch.nn.Module:
    """A peer ("hf" or "plain"), or ours under a pattern with Hugging Face's weights."""
    if name == "plain":
        return PlainGPT2(config)
    peer: torch.nn.Module = hugging_face(config)
    if name == "hf":
        return peer
    return GPT.from_gpt2(peer.state_dict(), PATTERNS[name](config.n_layer, config.n_head))


def serve(pipe: Connection, name: str, config: GPTConfig, batch: int, bfloat16: bool) -> None:
    """Take a step of the model whenever asked, in a process of its own, and answer with its seconds and memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if name not in PEERS:
        keep_freed_memory()
    step = stepper(build(name, config), bfloat16)
    tokens = torch.randint(VOCAB, (batch, config.block_size))
    while pipe.recv():
        start = time.perf_counter()
        step(tokens)
        seconds = time.perf_counter() - start
        pipe.send((seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024))


def measure(config: GPTConfig, batch: int, bfloat16: bool, rounds: int) -> dict[str, Measured]:
    """All models, which take their steps in turn after two to warm up."""
    fork = multiprocessing.get_context("fork")
    pipes, workers = {}, []
    for name in (*PEERS, *PATTERNS):
        pipes[name], other = fork.Pipe()
        workers.append(fork.Process(target=serve, args=(other, name, config, batch, bfloat16), daemon=True))
        workers[-1].start()
    best = dict.fromkeys(pipes, Measured(float("inf"), 0))
    for turn in range(rounds + 2):
        for name, pipe in pipes.items():
            pipe.send(True)
            seconds, memory = pipe.recv()
            if turn >= 2:
                best[name] = Measured(min(best[name].seconds, seconds), memory)
    for pipe in pipes.values():
        pipe.send(False)
    for worker in workers:
        worker.join()
    return best


def compare(name: str, bfloat16: bool, rounds: int) -> str:
    """Print one row of the first table; returns that of the second."""
    n_layer, n_head, n_embd, block_size, batch = SIZES[name]
    config, n_tokens = GPTConfig(n_layer, n_head, n_embd, block_size, VOCAB), batch * block_size
    measured = measure(config, batch, bfloat16, rounds)
    hf, plain, baseline = (measured[name] for name in (*PEERS, "baseline"))
    flops = costs(config, SkipPattern.baseline(n_layer, n_head)).training_flops_per_token * n_tokens
    rate = gemm_rate(config, n_tokens, torch.bfloat16 if bfloat16 else torch.float32)
    size = f"| {name} | {block_size} | {'bf16' if bfloat16 else 'fp32'} "
    print(
        f"{size}| {n_tokens / hf.seconds:,.0f} | {n_tokens / plain.seconds:,.0f} | {n_tokens / baseline.seconds:,.0f} "
        f"| {hf.seconds / baseline.seconds:.2f} | {plain.seconds / baseline.seconds:.2f} "
        f"| {hf.memory / 1e6:,.0f} | {plain.memory / 1e6:,.0f} | {baseline.memory / 1e6:,.0f} "
        f"| {flops / baseline.seconds / 1e9:.0f} | {rate / 1e9:.0f} | {flops / baseline.seconds / rate:.2f} |",
        flush=True,
    )
    others = [m for pattern, m in measured.items() if pattern not in (*PEERS, "baseline")]
    cells = [f"{m.seconds / baseline.seconds:.3f} | {m.memory / baseline.memory:.2f}" for m in others]
    return f"{size}| {' | '.join(cells)} |"


def loss_curves(steps: int) -> None:
    """Train Hugging Face's model and the baseline on the same text and print both losses."""
    from sla_ablate.data.batches import TrainingBatches
    from sla_ablate.data.config import DataConfig
    from sla_ablate.data.shards import prepare

    shards = prepare(DataConfig(vocab_size=VOCAB), log=lambda line: None)
    config = GPTConfig(6, 4, 128, 256, VOCAB)
    for bfloat16 in (False, True):
        pair = {name: stepper(build(name, config), bfloat16) for name in ("hf", "baseline")}
        batches = TrainingBatches(shards.train, 0, 8, 255)
        curves = {k: [step(batches[i]) for i in range(steps)] for k, step in pair.items()}
        gaps = [a - b for a, b in zip(curves["baseline"], curves["hf"], strict=True)]
        print(f"\n{'bf16' if bfloat16 else 'fp32'}, largest difference {max(map(abs, gaps)):.1e} nats/token")
        for i in range(0, steps, max(1, steps // 8)):
            print(f"  step {i:3d}  hf {curves['hf'][i]:.4f}  ours {curves['baseline'][i]:.4f}")


def main() -> None:
    """Print the table, then the loss curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default=",".join(SIZES), help="comma-separated names")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loss-steps", type=int, default=40)
    options = parser.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    print("| size | T | precision | HF tok/s | plain tok/s | baseline tok/s | baseline / HF | baseline / plain "
          "| HF MB | plain MB | baseline MB | GFLOP/s | GEMM GFLOP/s | share of GEMM rate |")  # fmt: skip
    print("|" + "---|" * 14)
    names = options.sizes.split(",")
    rows = [compare(name, bfloat16, options.rounds) for name in names for bfloat16 in (False, True)]
    print("\nTime and peak memory of a step, as multiples of the baseline's:\n")
    print("| size | T | precision | SLA time | SLA memory | CLA time | CLA memory | YOCO time | YOCO memory |")
    print("|" + "---|" * 9, *rows, sep="\n")
    loss_curves(options.loss_steps)


if __name__ == "__main__":
    main()
