"""Made-up run records."""

import copy
import json

import numpy as np
import pandas as pd
import pytest

from sla_ablate.runs.record import write_record

IS_SKIP = {"baseline": [[False, False], [False, False]], "skip": [[False, False], [True, False]]}

NAMES = ("baseline", "worse", "unresolved", "late", "worst", "skip", "alike", "best", "other", "zigzag")
"""Of patterns; the tables of each are its number here, bit by bit, and those of any other name are 15."""


def make_record(pattern="baseline", seed=0, nats=2.0, *, setting="s1", state="done", config=None):
    """A record of three documents whose loss is `nats` per token over 100 tokens, 400 bytes, 50 words."""
    tokens, bytes_, words = [10, 30, 60], [50, 150, 200], [5, 15, 30]
    skip = 0 if pattern == "baseline" else 1
    number = NAMES.index(pattern) if pattern in NAMES else 15
    moved = [number >> bit & 1 for bit in range(4)]
    return {
        "schema": 3,
        "run_id": f"{pattern}-s{seed}-{setting}",
        "state": state,
        "error": None,
        "attempt": 1,
        "pattern": {
            "name": pattern,
            "label": pattern,
            "key_source": [[0, 0], [1 - moved[0], 1 - moved[1]]],
            "value_source": [[0, 0], [1 - moved[2], 1 - moved[3]]],
        },
        "seed": seed,
        "pairing": f"{setting}/{seed}",
        "setting": setting,
        "config": {
            "model": {"n_layer": 2, "n_head": 2, "n_embd": 8, "block_size": 256, "dropout": None},
            "data": {"corpus": "books"},
            "optim": {"lr": 0.001, "steps": 3, "batch_size": 1},
            "pattern": {"name": pattern},
            "seed": seed,
            **copy.deepcopy(config or {}),
        },
        "environment": {"precision": "bf16-mixed", "threads": 1, "cpu": "made up"},
        "cost": {
            "parameters": 1_234_567,
            "parameters_read": 1_234_567 - skip,
            "forward_flops_per_token": 2e6,
            "training_flops_per_token": 6e6,
            "kv_cache_bytes_per_token": 4096 - 1024 * skip,
            "tokens": 1_000_000,
            "seconds": 10.0,
            "tokens_per_second": 1e5,
            "peak_memory_bytes": 1 << 30,
        },
        "results": {
            "validation": {
                "context_length": 256,
                "stride": 256,
                "start_token": "<|endoftext|>",
                "documents": ["a", "b", "c"],
                # Uneven over documents, so that a mean of per-document rates is not the rate of the sums.
                "nll": [nats * 20, nats * 30, nats * 50],
                "tokens": tokens,
                "bytes": bytes_,
                "words": words,
            }
        },
    }


@pytest.fixture(scope="session")
def record():
    return make_record


@pytest.fixture
def sweep():
    """Baseline, one clearly worse and one unresolved pattern, three seeds each."""
    losses = {
        "baseline": [2.00, 2.10, 2.20],
        "worse": [2.05, 2.16, 2.25],
        "unresolved": [1.99, 2.11, 2.19],
    }
    return [make_record(name, seed, nats) for name, row in losses.items() for seed, nats in enumerate(row)]


@pytest.fixture(scope="session")
def analyzed(tmp_path_factory):
    """The folder of an analyzed sweep, baseline and one pattern with three seeds each; all values are random."""
    folder = tmp_path_factory.mktemp("runs") / "sweep"
    rng = np.random.default_rng(0)
    rows = []
    for pattern in IS_SKIP:
        for seed in range(3):
            record = make_record(pattern, seed, rng.uniform(2, 3))
            run = folder / record["run_id"]
            run.mkdir(parents=True)
            write_record(run, record)
            lines = [{"step": step, "loss": rng.uniform(2, 3)} for step in (1, 2, 3)] + [
                {"step": 3, "validation_loss": 2}
            ]
            (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            identity = {"run": record["run_id"], **{k: record[k] for k in ("seed", "setting", "pairing")}}
            rows += [{**identity, "pattern": pattern, **row} for row in _measured(IS_SKIP[pattern], rng)]
    table = pd.DataFrame(rows)
    for column in ("layer", "head", "other_layer", "other_head", "position"):
        table[column] = table[column].astype("Int64")
    (folder / "analysis").mkdir()
    table.to_parquet(folder / "analysis/heads.parquet")
    return folder


def _measured(is_skip, rng):
    for layer in (0, 1):
        for metric in ("generalised_jsd", "generalised_jsd_within", "generalised_jsd_between", "effective_heads"):
            yield {"layer": layer, "metric": metric, "value": rng.uniform()}
        jsd = rng.uniform(0, np.log(2))
        for head in (0, 1):
            role = "skip" if is_skip[layer][head] else "own"
            for metric in ("normalised_entropy", "attention_distance_off_sink", "importance", "knock_out"):
                whole = {"layer": layer, "head": head, "role": role, "metric": metric}
                yield {**whole, "value": rng.uniform()}
                yield {**whole, "position": 4, "value": -1}  # no figure shows it
            pair = {"layer": layer, "head": head, "other_layer": layer, "metric": "pairwise_jsd"}
            yield {**pair, "other_head": 1 - head, "value": jsd}
            yield {**pair, "other_head": head, "value": 0}
            for other in (0, 1):
                pair = {"layer": layer, "head": head, "other_layer": other, "other_head": head}
                yield {**pair, "metric": "map_similarity", "value": rng.uniform()}
        yield {"layer": layer, "role": "own", "metric": "generalised_jsd", "value": -1}  # nor this
    for position in (1, 2, 4):
        yield {"position": position, "metric": "nll", "value": rng.uniform(2, 3)}
