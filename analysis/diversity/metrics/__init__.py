"""One file a metric: whatever class stands here is measured, and listed nowhere else."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from inspect import getmembers, isclass

from analysis.diversity.metric import HeadMetric


def all_metrics() -> list[type[HeadMetric]]:
    """The metrics of all files in this folder."""
    modules = [import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__)]
    return [
        member
        for module in modules
        for _, member in getmembers(module, isclass)
        if issubclass(member, HeadMetric) and member.__module__ == module.__name__
    ]
