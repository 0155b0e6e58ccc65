"""What is measured after training, from run records and checkpoints only."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.diversity.head_diversity import HeadDiversity, measure_heads
    from analysis.sweep import SweepResults, open_sweep

__all__ = ["HeadDiversity", "SweepResults", "measure_heads", "open_sweep"]

# Loaded on first use: tables and figures must not cost torch's second of start-up.
_HOME = {
    "HeadDiversity": "analysis.diversity.head_diversity",
    "SweepResults": "analysis.sweep",
    "measure_heads": "analysis.diversity.head_diversity",
    "open_sweep": "analysis.sweep",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
