"""Made-up run records."""

import copy

import pytest


def make_record(pattern="baseline", seed=0, nats=2.0, *, setting="s1", state="done", config=None):
    """A record of three documents whose loss is `nats` per token over 100 tokens, 400 bytes, 50 words."""
    tokens, bytes_, words = [10, 30, 60], [50, 150, 200], [5, 15, 30]
    skip = 0 if pattern == "baseline" else 1
    return {
        "schema": 1,
        "run_id": f"{pattern}-s{seed}-{setting}",
        "state": state,
        "error": None,
        "attempt": 1,
        "pattern": {
            "name": pattern,
            "label": pattern,
            "key_source": [[0, 0], [1 - skip, 1]],
            "value_source": [[0, 0], [1 - skip, 1]],
        },
        "seed": seed,
        "pairing": f"{setting}/{seed}",
        "setting": setting,
        "config": {
            "model": {"block_size": 256, "dropout": None},
            "optim": {"lr": 0.001},
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
