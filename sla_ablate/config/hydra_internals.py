"""Everything that the project takes from inside Hydra; the dependency is bounded to the versions that have it."""

from __future__ import annotations

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

__all__ = ["Callbacks", "apply_overrides", "cells_of"]


def apply_overrides(overrides: list[Override], config: DictConfig) -> None:
    """Set values in a composed configuration, as Hydra sets those of a command line."""
    ConfigLoaderImpl._apply_overrides_to_config(overrides, config)


def cells_of(overrides: list[Override]) -> list[list[str]]:
    """The overrides of every cell of a grid, as Hydra's basic sweeper has them."""
    (cells,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    return list(cells)
