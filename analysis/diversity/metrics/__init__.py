"""One file a metric: whatever class stands here is measured, and listed nowhere else. A user's own have names."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from inspect import getmembers, isabstract, isclass

from analysis.diversity.metric import HeadMetric, PassMetric, TileMetric
from sla_ablate.errors import InputError, named


def all_metrics() -> list[type[HeadMetric]]:
    """The metrics of all files in this folder."""
    modules = [import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__)]
    return [
        member
        for module in modules
        for _, member in getmembers(module, isclass)
        if issubclass(member, HeadMetric) and member.__module__ == module.__name__
    ]


def own_metrics(names: Sequence[str]) -> list[type[HeadMetric]]:
    """The metrics of a user's own that names in the form of `errors.DOTTED` stand for.

    Raises:
        InputError: one of them stands for something else.
    """
    metrics = [named("--metric", name) for name in names]
    for name, metric in zip(names, metrics, strict=True):
        if not isclass(metric) or not issubclass(metric, PassMetric | TileMetric) or isabstract(metric):
            raise InputError(f"--metric {name!r} is no metric; write a subclass of TileMetric or PassMetric")
    return metrics
