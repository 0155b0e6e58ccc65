"""Speed of one training step on a CPU: baseline and SLA against Hugging Face's GPT-2 and the GEMM rate.

    python benchmarks/train_step.py [--sizes 12x192,6x384] [--rounds 5] [--loss-steps 40]

All models of a row have the same weights, batch, optimizer (fused AdamW), clipping and precision. Each has a process
of its own with one thread, ours set up as a run is, Hugging Face's as it comes; they take their steps in turn, so that
a busy machine slows all of them, and the fastest step of each counts. The GEMM rate is that of the size's own products
(x Wᵀ, g W and gᵀ x of the feed-forward layer). `--loss-steps` trains ours and Hugging Face's from the same weights on
the same batches and prints both loss curves.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

from sla_ablate import GPT, GPTConfig, SkipPattern
from sla_ablate.allocator import keep_freed_memory
from sla_ablate.config import OptimConfig
from sla_ablate.costs import costs
from sla_ablate.training import adamw

SIZES = {  # name: (n_layer, n_head, n_embd, block_size, batch)
    "6x128": (6, 4, 128, 256, 8),
    "6x384": (6, 6, 384, 256, 8),
    "12x192": (12, 12, 192, 256, 8),
    "12x192@1024": (12, 12, 192, 1024, 2),
    "12x768": (12, 12, 768, 512, 2),
}
VOCAB = 4096
Step = Callable[[torch.Tensor], float]


def hugging_face(config: GPTConfig) -> torch.nn.Module:
    """Hugging Face's model of the same shape, in training mode, without dropout."""
    model: torch.nn.Module = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size, n_positions=config.block_size, n_embd=config.n_embd,
            n_layer=config.n_layer, n_head=config.n_head, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            bos_token_id=0, eos_token_id=0, use_cache=False,
        )
    ).train()  # fmt: skip
    return model


def shifted(tokens: torch.Tensor) -> torch.Tensor:
    """Targets as Hugging Face's `labels` make them: the next token, none at the last position."""
    return F.pad(tokens[:, 1:], (0, 1), value=-100)


def stepper(model: torch.nn.Module, bfloat16: bool) -> Step:
    """One optimizer step as a function of a batch [B, T]; returns the loss."""
    # Without warm-up, a higher rate would blow the last bits' difference up within steps.
    optimizer = adamw(model, OptimConfig(lr=3e-4))

    def step(tokens: torch.Tensor) -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            if isinstance(model, GPT):
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
        F.linear(x, w), g @ w, g.T @ x
        best = min(best, time.perf_counter() - start)
    return 3 * 2 * rows * C * 4 * C / best


def serve(pipe: Connection, name: str, config: GPTConfig, batch: int, bfloat16: bool) -> None:
    """In a process of its own: take a step of the model whenever asked, and answer with its seconds."""
    if name != "hf":
        keep_freed_memory()
    step = stepper(models(config)[name], bfloat16)
    tokens = torch.randint(VOCAB, (batch, config.block_size))
    while pipe.recv():
        start = time.perf_counter()
        step(tokens)
        pipe.send(time.perf_counter() - start)


def fastest(config: GPTConfig, batch: int, bfloat16: bool, rounds: int) -> dict[str, float]:
    """Seconds of the fastest step of each model, taken in turn after two to warm up."""
    fork = multiprocessing.get_context("fork")
    pipes, workers = {}, []
    for name in ("hf", "baseline", "sla"):
        pipes[name], other = fork.Pipe()
        workers.append(fork.Process(target=serve, args=(other, name, config, batch, bfloat16), daemon=True))
        workers[-1].start()
    best = dict.fromkeys(pipes, float("inf"))
    for turn in range(rounds + 2):
        for name, pipe in pipes.items():
            pipe.send(True)
            seconds = pipe.recv()
            if turn >= 2:
                best[name] = min(best[name], seconds)
    for pipe in pipes.values():
        pipe.send(False)
    for worker in workers:
        worker.join()
    return best


def models(config: GPTConfig) -> dict[str, torch.nn.Module]:
    """Hugging Face's, the baseline and SLA (three quarters of depth and heads), with the same weights."""
    torch.manual_seed(0)
    peer = hugging_face(config)
    L, H = config.n_layer, config.n_head
    baseline = SkipPattern.baseline(L, H)
    sla = SkipPattern.skip_layer(L, H, round(0.75 * L), round(0.75 * H))
    weights = {name: tensor.clone() for name, tensor in peer.state_dict().items()}
    return {"hf": peer, "baseline": GPT.from_gpt2(weights, baseline), "sla": GPT.from_gpt2(weights, sla)}


def compare(name: str, bfloat16: bool, rounds: int) -> None:
    """Print one row of the table."""
    n_layer, n_head, n_embd, block_size, batch = SIZES[name]
    config = GPTConfig(n_layer, n_head, n_embd, block_size, VOCAB)
    seconds, n_tokens = fastest(config, batch, bfloat16, rounds), batch * block_size
    flops = costs(config, SkipPattern.baseline(n_layer, n_head)).training_flops_per_token * n_tokens
    rate = gemm_rate(config, n_tokens, torch.bfloat16 if bfloat16 else torch.float32)
    print(
        f"| {name} | {block_size} | {'bf16' if bfloat16 else 'fp32'} "
        + "".join(f"| {n_tokens / seconds[k]:,.0f} " for k in seconds)
        + f"| {seconds['hf'] / seconds['baseline']:.2f} | {seconds['sla'] / seconds['baseline']:.3f} "
        f"| {flops / seconds['baseline'] / 1e9:.0f} | {rate / 1e9:.0f} | {flops / seconds['baseline'] / rate:.2f} |",
        flush=True,
    )


def loss_curves(steps: int) -> None:
    """Train Hugging Face's model and the baseline on the same text and print both losses."""
    from sla_ablate.config import DataConfig
    from sla_ablate.data.batches import TrainingBatches
    from sla_ablate.data.shards import prepare

    shards = prepare(DataConfig(vocab_size=VOCAB), log=lambda line: None)
    config = GPTConfig(6, 4, 128, 256, VOCAB)
    for bfloat16 in (False, True):
        pair = {k: stepper(m, bfloat16) for k, m in models(config).items() if k != "sla"}
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
    print("| size | T | precision | HF tok/s | baseline tok/s | SLA tok/s | baseline / HF | SLA / baseline time "
          "| GFLOP/s | GEMM GFLOP/s | share of GEMM rate |")  # fmt: skip
    print("|" + "---|" * 11)
    for name in options.sizes.split(","):
        for bfloat16 in (False, True):
            compare(name, bfloat16, options.rounds)
    loss_curves(options.loss_steps)


if __name__ == "__main__":
    main()
