"""Made-up lines of an item's runs, as they would be had its sweep been carried out: tables, figures and pages of every
item without training."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise

import numpy as np

from sla_ablate.config.compose import compose
from sla_ablate.config.schema import RunConfig
from sla_ablate.data.classes import NAMES
from sla_ablate.items.item import Item
from sla_ablate.items.lines import Line, line_of
from sla_ablate.patterns.costs import costs
from sla_ablate.runs.identity import SCHEMA, identify

DATA = "0123456789ab"
DOCUMENTS = 21
PARTS = ("generalised_jsd", "generalised_jsd_within", "generalised_jsd_between", "effective_heads")


def made_up_lines(item: Item, scale: str = "micro", seeds: int = 3, cpu: str = "made-up processor") -> list[Line]:
    """A line for each run of an item's sweep, of each run one; the same each time."""
    configs = [config for overrides in item.command_lines(scale, seeds) for config in compose(overrides, True).configs]
    lines = {line["run_id"]: line for line in (_line(config, cpu) for config in configs)}
    return sorted(lines.values(), key=lambda line: line["seed"])


def _line(config: RunConfig, cpu: str) -> Line:
    identity = identify(config, DATA)
    pattern = config.skip_pattern()
    of_seed, of_run = (np.random.default_rng([SCHEMA, *map(ord, text)]) for text in (identity.pairing, identity.run_id))
    m, o = config.model, config.optim
    cost = costs(config.gpt_config(config.data.vocab_size), pattern)
    tokens = o.steps * o.batch_size * m.block_size
    skips = pattern.key_source != np.arange(m.n_layer)[:, None]
    lowest = 1.7 + 900 / (tokens + 1e5) ** 0.5 / 10 + 2 * cost.parameters**-0.2 + 0.1 * abs(np.log(o.lr / 3e-3))
    kind = np.random.default_rng(zlib.crc32(pattern.key_source.tobytes() + pattern.value_source.tobytes()))
    effect = kind.normal(-0.01, 0.02) * bool(skips.any() or (pattern.value_source != pattern.key_source).any())
    loss = lowest + of_seed.normal(0, 0.02) + effect + of_run.normal(0, 0.004)
    record = {
        "state": "done",
        "schema": SCHEMA,
        **asdict(identity),
        "seed": config.seed,
        "pattern": {
            "name": config.pattern.name,
            "label": config.pattern_label(),
            "key_source": pattern.key_source.tolist(),
            "value_source": pattern.value_source.tolist(),
        },
        "config": asdict(config),
        "environment": {
            **{
                "device": "cpu",
                "devices": 1,
                "strategy": None,
                "gpu": None,
                "cpu": cpu,
                "processor": cpu,
                "cpu_capability": "AVX512",
            },
            **{"threads": 1, "precision": "32-true", "python": "3.11.7", "git_commit": "0" * 40},
            "versions": {"sla-ablate": "0.1.0", "torch": "2.13.0+cpu", "lightning": "2.6.6"},
        },
        "cost": {**asdict(cost), "tokens": tokens, "seconds": tokens / 1e4, "tokens_per_second": 1e4}
        | {"peak_memory_bytes": 10**9},
        "results": {
            "validation": {
                **{"context_length": m.block_size, "stride": m.block_size, "start_token": "<|endoftext|>"},
                "documents": [str(n) for n in range(DOCUMENTS)],
                "nll": [loss * 10_000] * DOCUMENTS,
                **{name: [n] * DOCUMENTS for name, n in (("tokens", 10_000), ("bytes", 38_000), ("words", 7_000))},
            },
            "classes": dict(_classes(loss, effect, m.block_size, of_run)),
        },
    }
    return line_of(record, DATA, _heads(m.n_layer, m.n_head, skips, of_run), _curve(o.steps, loss, of_seed))


def _classes(loss: float, effect: float, block_size: int, rng: np.random.Generator) -> Iterator[tuple[str, object]]:
    """Rarer tokens cost more, and most of a difference is where a bigram was seen before."""
    starts = [str(2**n) for n in range(block_size.bit_length())]
    for partition, names in {**NAMES, "position": starts}.items():
        at = np.linspace(-1, 1, len(names))
        nats = loss - at * (2 if partition == "frequency" else 0.2) + effect * (1 + at) + rng.normal(0, 0.004, len(at))
        share = DOCUMENTS * 10_000 // len(names)
        yield partition, {n: {"tokens": share, "nll": share * x} for n, x in zip(names, nats.tolist(), strict=True)}


def _heads(n_layer: int, n_head: int, skips: np.ndarray, rng: np.random.Generator) -> dict[str, object]:
    layers = {part: (0.2 + 0.05 * skips.mean() + rng.normal(0, 0.01, n_layer)).round(5).tolist() for part in PARTS}
    entropy = rng.uniform(0.2, 0.9, (n_layer, n_head)).round(5).tolist()
    return {"tokens": 8192, "layers": layers, "heads": {"normalised_entropy": entropy}}


def _curve(steps: int, loss: float, rng: np.random.Generator) -> list[tuple[int, float | None]]:
    edges = sorted({*np.geomspace(1, steps, 25).astype(int).tolist()})
    return [(step, float(loss + 5 * np.exp(-8 * step / steps) + rng.normal(0, 0.05))) for _, step in pairwise(edges)]
