"""Skip patterns: which layer's keys and which layer's values every head attends to."""

from sla_ablate.patterns.skip_pattern import Mask, SkipPattern, Table

__all__ = ["Mask", "SkipPattern", "Table"]
