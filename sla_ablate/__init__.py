"""Ablate and reproduce Skip-Layer Attention and its relatives."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.sweep import open_sweep
    from sla_ablate.config.schema import OptimConfig
    from sla_ablate.errors import InputError
    from sla_ablate.model.config import GPTConfig
    from sla_ablate.model.gpt import GPT
    from sla_ablate.patterns import SkipPattern
    from sla_ablate.training.module import LanguageModel

__version__ = "0.1.0"
__all__ = ["GPT", "GPTConfig", "InputError", "LanguageModel", "OptimConfig", "SkipPattern", "open_sweep"]

# Loaded on first use: `import sla_ablate` must not cost torch's second of start-up.
_HOME = {
    "GPT": "sla_ablate.model.gpt",
    "GPTConfig": "sla_ablate.model.config",
    "InputError": "sla_ablate.errors",
    "LanguageModel": "sla_ablate.training.module",
    "OptimConfig": "sla_ablate.config.schema",
    "SkipPattern": "sla_ablate.patterns",
    "open_sweep": "analysis.sweep",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
