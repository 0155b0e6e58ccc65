"""Everything that the project takes from inside Hydra; the dependency is bounded to the versions that have it."""

from __future__ import annotations

from pathlib import Path

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from omegaconf import DictConfig

__all__ = ["VERSION_BASE", "Callbacks", "apply_overrides", "cells_of", "config_loader"]

VERSION_BASE = "1.3"
"""Hydra's behaviour in what differs between its versions."""


def config_loader(folder: Path, more: Path | None) -> ConfigLoader:
    """Hydra's loader of the configuration in a folder and, as with its own `--config-dir`, in a second one."""
    version.setbase(VERSION_BASE)
    setup_globals()  # resolvers
    search_path = create_config_search_path(str(folder))
    if more is not None:
        search_path.prepend("command-line", f"file://{more.absolute()}", SearchPathQuery(provider="schema"))
    return ConfigLoaderImpl(search_path)


def apply_overrides(overrides: list[Override], config: DictConfig) -> None:
    """Set values in a composed configuration, as Hydra sets those of a command line."""
    ConfigLoaderImpl._apply_overrides_to_config(overrides, config)


def cells_of(overrides: list[Override]) -> list[list[str]]:
    """The overrides of every cell of a grid, as Hydra's basic sweeper has them."""
    (cells,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    return list(cells)
