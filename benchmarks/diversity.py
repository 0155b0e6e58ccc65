"""Cost of the diversity metrics on a CPU: time against the attention forward, and peak memory, by context length.

    python benchmarks/diversity.py [--contexts 256,1024,4096,16384] [--query-rows 512] [--rounds 3] [--direct 4096]

One layer of 12 heads, 64 wide, float32, one thread. Every cell is a process of its own, so that its peak resident
memory is its own; "attention" is PyTorch's fused causal attention. "additive" is all metrics of one layer's maps but
pairwise divergence, one walk; "pairwise" all rows, "sampled" `--query-rows` of them; "direct" computes the additive
ones from the whole maps, in float64 as a notebook would, up to `--direct` tokens. Times in units of the attention;
processor time, which a busy machine lengthens less than the time of day.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from analysis.diversity.maps import Maps
from analysis.diversity.metric import Pass, Setting, TileMetric
from analysis.diversity.metrics import all_metrics
from analysis.diversity.metrics.pairwise_jsd import PairwiseJSD
from sla_ablate import SkipPattern
from sla_ablate.training.machine import keep_freed_memory

H, D = 12, 64
PATTERN = SkipPattern.skip_layer(2, H, distance=1)
"""Layer 1, the one measured, has 9 skip heads: own and skip groups are told apart."""
N_MIN = 16


def additive(q: Tensor, k: Tensor, metrics: list[TileMetric]) -> None:
    """All metrics of a layer's maps but pairwise divergence."""
    for block in Maps(1, q, k).blocks(N_MIN):
        for tile in block.tiles():
            for metric in metrics:
                metric.update(tile)


def direct(q: Tensor, k: Tensor) -> None:
    """The additive metrics from whole maps [H, T, T]."""
    T = q.shape[1]
    hidden = torch.ones(T, T, dtype=torch.bool).triu(1)
    p = (q @ k.transpose(1, 2) / D**0.5).masked_fill(hidden, -torch.inf).softmax(-1).double()[:, N_MIN - 1 :]
    rows, keys = torch.arange(N_MIN - 1, T).double(), torch.arange(T).double()
    entropy = torch.special.entr(p).sum(-1)
    distance = rows - p @ keys
    groups = [p.mean(0), p[:9].mean(0), p[9:].mean(0)]
    mixed = [torch.special.entr(group).sum() for group in groups]
    root = p.sqrt().flatten(1)
    overlap = root @ root.T
    for result in (entropy, distance, *mixed, overlap, groups[0].square(), p.amax(-1), p[..., 0], (entropy / rows)):
        result.sum()


def measure(what: str, T: int, query_rows: int, rounds: int) -> None:
    """Print the fastest seconds of `what` and of the attention, taken in turn, and the peak memory without and with."""
    torch.set_num_threads(1)
    keep_freed_memory()
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(H, T, D, generator=generator) for _ in range(3))
    metrics = [metric(Setting(PATTERN, D, N_MIN)) for metric in all_metrics() if issubclass(metric, TileMetric)]
    all_rows, sampled_rows = (PairwiseJSD(Setting(PATTERN, D, N_MIN, rows)) for rows in (None, query_rows))
    jobs: dict[str, Callable[[], object]] = {
        "attention": lambda: F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True),
        "additive": lambda: additive(q, k, metrics),
        "pairwise": lambda: all_rows.update(Pass([Maps(1, q, k)])),
        "sampled": lambda: sampled_rows.update(Pass([Maps(1, q, k)])),
        "direct": lambda: direct(q, k),
    }
    best = dict.fromkeys(("attention", what), float("inf"))
    for _ in range(rounds):
        for name in best:
            start = time.process_time()
            jobs[name]()
            best[name] = min(best[name], time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(best["attention"], best[what], peak)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contexts", default="256,512,1024,2048,4096,8192,16384")
    parser.add_argument("--query-rows", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--direct", type=int, default=4096, help="longest context of the direct method")
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        measure(options.cell[0], int(options.cell[1]), options.query_rows, options.rounds)
        return
    columns = ("additive", "pairwise", "sampled", "direct")
    print(f"| T | attention ms | {' | '.join(f'{c} × | {c} MB' for c in columns)} |")
    print("|" + "---|" * (2 + 2 * len(columns)))
    for T in map(int, options.contexts.split(",")):
        cells, attention = [], float("inf")
        for what in columns:
            if (what == "direct" and options.direct < T) or (what == "sampled" and options.query_rows > T - N_MIN):
                cells += ["–", "–"]
                continue
            command = [sys.executable, __file__, "--query-rows", str(options.query_rows),
                       "--rounds", str(options.rounds), "--cell", what, str(T)]  # fmt: skip
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            base, seconds, peak = map(float, done.stdout.split())
            attention = min(attention, base)
            cells += [f"{seconds / base:.2f}", f"{peak:,.0f}"]
        print(f"| {T:,} | {attention * 1e3:,.1f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
