"""Published values: what others have reported, each with its source and how far it is to be trusted."""

from __future__ import annotations

import math
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from sla_ablate.config.schema import ModelConfig, PatternConfig, RunConfig
from sla_ablate.errors import InputError, unknown
from sla_ablate.patterns import SkipPattern

TRUST = ("high", "medium", "low")


@dataclass(frozen=True)
class Published:
    """One published value."""

    what: str
    """What was measured, in words: model, data."""
    source: str
    """Where it was published."""
    trust: str
    """How far it is to be trusted, of `TRUST`."""
    loss: float | None = None
    """Validation loss in nats per token; null: not known."""
    delta: float | None = None
    """Difference to its baseline, below 0 where the loss is lower; null: not known."""
    unit: str = "nats per token"
    """The unit of `delta`, or what is known of it."""
    pattern: dict[str, Any] = field(default_factory=dict)
    """The pattern as the configuration has it; empty: the baseline."""
    layers: int | None = None
    """Layers of its model; null: not known."""
    heads: int | None = None
    """Heads a layer of its model; null: not known."""

    @property
    def skip_pattern(self) -> SkipPattern | None:
        """The source tables, where layers and heads are known."""
        if self.layers is None or self.heads is None:
            return None
        model = ModelConfig(n_layer=self.layers, n_head=self.heads)
        return RunConfig(model=model, pattern=PatternConfig(**self.pattern)).skip_pattern()


def read_published(path: Path) -> list[Published]:
    """The values of a `published.yaml`, a list.

    Raises:
        InputError: what is wrong with it, in one line, such as a value without a source.
    """
    entries = read_yaml(path)
    if not isinstance(entries, list):
        raise InputError(f"{path} holds no list of published values; [] where nothing was published")
    return [_published(f"{path}, value {n}", entry) for n, entry in enumerate(entries, 1)]


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from None


def _published(where: str, entry: Any) -> Published:
    if not isinstance(entry, dict):
        raise InputError(f"{where} is no mapping of names to values")
    known = {each.name: each for each in fields(Published)}
    for key in entry:
        if key not in known:
            raise unknown(f"{where}: key", key, known)
    for key, each in known.items():
        if each.default is MISSING and each.default_factory is MISSING and not str(entry.get(key) or "").strip():
            raise InputError(f"{where} has no {key}; a published value needs one")
    if entry["trust"] not in TRUST:
        raise unknown(f"{where}: trust", entry["trust"], TRUST)
    for key in ("layers", "heads"):
        if not isinstance(entry.get(key), int | None):
            raise InputError(f"{where}: {key} is a whole number, not {entry[key]!r}")
    if not isinstance(entry.get("pattern", {}), dict):
        raise InputError(f"{where}: pattern is a mapping of the options of a pattern, not {entry['pattern']!r}")
    numbers = [entry[key] for key in ("loss", "delta") if entry.get(key) is not None]
    if not numbers or not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        raise InputError(f"{where} has no number as loss or delta")
    for key in set(entry.get("pattern", {})) - set(asdict(PatternConfig())):
        raise unknown(f"{where}: pattern option", key, asdict(PatternConfig()))
    published = Published(**entry)
    _ = published.skip_pattern  # raises if it is not possible
    return published
