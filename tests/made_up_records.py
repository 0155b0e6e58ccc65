"""What a done run's record has beside its identity, made up."""

from __future__ import annotations

from typing import Any

_SIZES = ("n_layer", "n_head", "n_embd", "block_size")
COSTS = ("parameters", "parameters_read", "training_flops_per_token", "kv_cache_bytes_per_token")


def ending(tokens_per_second: float = 1.0) -> dict[str, Any]:
    """Of five documents of one token each."""
    numbers = {name: [1] * 5 for name in ("nll", "tokens", "bytes", "words")}
    windows = {"context_length": 4, "stride": 4, "start_token": None}
    return {
        "state": "done",
        "attempt": 1,
        "cost": {**dict.fromkeys((*COSTS, "tokens", "seconds"), 1.0), "tokens_per_second": tokens_per_second},
        "environment": {"precision": "fp32"},
        "results": {"validation": {"documents": ["a"] * 5, **numbers, **windows}},
    }


def identity() -> dict[str, Any]:
    """Of a run of one layer with one head."""
    tables = {"key_source": [[0]], "value_source": [[0]]}
    return {
        **{"run_id": "RUN", "pairing": "p", "setting": "s", "seed": 0, "error": None},
        "pattern": {"name": "baseline", "label": "baseline", **tables},
        "config": {"model": dict.fromkeys(_SIZES, 4), "data": {}, "optim": {"steps": 1, "batch_size": 1}},
    }
