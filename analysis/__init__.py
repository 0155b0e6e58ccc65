"""What is measured after training, from run records and checkpoints only."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.diversity.head_diversity import HeadDiversity, measure_heads

__all__ = ["HeadDiversity", "measure_heads"]


# Loaded on first use: tables and figures must not cost torch's second of start-up.
def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("analysis.diversity.head_diversity"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
