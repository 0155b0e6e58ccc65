"""Speed of generation on a CPU: ours against Hugging Face's `generate` with its cache and the memory's bandwidth.

    python benchmarks/generate.py [--sizes 6x384,124M] [--rounds 5] [--long 2048]

One sequence, greedy, on one thread, after a prompt of 16 tokens. All models of a row have the same weights and take
turns, so that a busy machine slows all of them; the fastest of each counts, and a first call is left out. The limit,
measured in between, is to read the weights once a token: a float32 matrix of as many bytes, by the faster of
multiplying it with a vector and adding it up.

`--long` compares patterns at a context of that many tokens, in float32: reading a prompt of all but 64 of them with one
new token, and then 64 tokens.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from common import PATTERNS, hugging_face
from transformers.utils import logging

from sla_ablate import GPT, GPTConfig, SkipPattern

SIZES = {  # name: (n_layer, n_head, n_embd, block_size, vocab_size, new tokens)
    "6x384": (6, 6, 384, 256, 4096, 240),
    "124M": (12, 12, 768, 1024, 50257, 112),
}
PROMPT = 16
COLUMNS = 4096
"""Columns of the matrix that is read for the limit."""
LAST = 64
"""New tokens after a long prompt."""


def fastest(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of the fastest run of each, taken in turn after one to warm up."""
    best = dict.fromkeys(jobs, float("inf"))
    for turn in range(rounds + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            if turn:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def compare(name: str, dtype: torch.dtype, rounds: int) -> None:
    """Print one row of the first table."""
    n_layer, n_head, n_embd, block_size, vocab_size, new = SIZES[name]
    peer = hugging_face(GPTConfig(n_layer, n_head, n_embd, block_size, vocab_size)).eval()
    ours = GPT.from_gpt2(peer.state_dict(), SkipPattern.baseline(n_layer, n_head)).to(dtype)
    peer = peer.to(dtype)
    prompt = torch.randint(vocab_size, (1, PROMPT))
    read = sum(p.nbytes for p in ours.parameters()) - ours.wpe.weight.nbytes
    matrix, vector = torch.randn(read // 4 // COLUMNS, COLUMNS), torch.randn(COLUMNS)
    seconds = fastest(
        {
            "hf": lambda: peer.generate(prompt, max_new_tokens=new, do_sample=False, use_cache=True),
            "ours": lambda: ours.generate(prompt, new, temperature=0),
            "product": lambda: [matrix @ vector for _ in range(new)],
            "sum": lambda: [matrix.sum() for _ in range(new)],
        },
        rounds,
    )
    rate, limit = new / seconds["ours"], new / min(seconds["product"], seconds["sum"])
    print(
        f"| {name} | {'bf16' if dtype == torch.bfloat16 else 'fp32'} | {new / seconds['hf']:,.1f} "
        f"| {rate:,.1f} | {seconds['hf'] / seconds['ours']:.2f} | {limit:,.1f} | {rate / limit:.2f} |",
        flush=True,
    )


def long_context(positions: str, block_size: int, rounds: int) -> None:
    """Print the rows of the second table for one position scheme: 12 layers of 12 heads, 192 wide."""
    L = H = 12
    config = GPTConfig(L, H, 192, block_size, 4096, positions=positions)
    prompt = torch.randint(4096, (1, block_size - LAST))
    models = {}
    for name in ("baseline", "SLA", "YOCO"):
        torch.manual_seed(0)
        models[name] = GPT(config, PATTERNS[name](L, H))
    jobs: dict[str, Callable[[], object]] = {}
    for name, model in models.items():
        jobs[f"{name} prompt"] = lambda model=model: model.generate(prompt, 1, temperature=0)  # type: ignore[misc]
        jobs[name] = last_tokens(model, prompt)
    seconds = fastest(jobs, rounds)
    for name, model in models.items():
        print(
            f"| {name} | {positions} | {block_size} | {seconds[f'{name} prompt'] * 1e3:,.0f} "
            f"| {seconds[name] / LAST * 1e3:.2f} | {model.empty_cache(1, block_size).nbytes / 1e6:.1f} |",
            flush=True,
        )


def last_tokens(model: GPT, prompt: torch.Tensor) -> Callable[[], object]:
    """What reads `LAST` tokens after a prompt, the same ones each time."""
    cache = model.empty_cache(1, prompt.shape[1] + LAST)
    with torch.no_grad():
        model.eval().hidden_states(prompt, cache, last_only=True)

    @torch.no_grad()
    def read() -> None:
        cache.length = prompt.shape[1]
        for _ in range(LAST):
            model(prompt[:, -1:], cache=cache)

    return read


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default=",".join(SIZES), help="comma-separated names")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--long", type=int, default=2048, help="context length of the second table; 0: none")
    options = parser.parse_args()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    print("| size | precision | HF tok/s | ours tok/s | ours / HF | limit tok/s | ours / limit |")
    print("|" + "---|" * 7)
    for name in options.sizes.split(","):
        for dtype in (torch.float32, torch.bfloat16):
            compare(name, dtype, options.rounds)
    if options.long:
        print("\n| pattern | positions | context | prompt ms | ms a token | cache MB |")
        print("|" + "---|" * 6)
        for positions in ("learned", "rotary"):
            long_context(positions, options.long, options.rounds)


if __name__ == "__main__":
    main()
