"""Words for times and sizes, and values as JSON."""

from __future__ import annotations

import json
import math
from typing import Any


def duration(seconds: float | None) -> str:
    """Hours, minutes and seconds; empty for None."""
    if seconds is None:
        return ""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


def training(step: int, steps: int, loss: float, tokens_per_second: float, seconds_left: float | None) -> str:
    """How far training is; the loss is in nats per token."""
    return f"step {step}/{steps}  loss {loss:.3f}  {tokens_per_second:,.0f} tokens/s  {duration(seconds_left)} left"


def size(number: float) -> str:
    """Bytes in MB or GB, of 10^6 and 10^9."""
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.1f} MB"


def as_json(value: Any, indent: int | None = None) -> str:
    """A value as JSON that every reader takes (RFC 8259): what it has no number for, NaN and infinities, is null."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
