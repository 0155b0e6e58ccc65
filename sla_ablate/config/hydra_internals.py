"""Everything that the project takes from inside Hydra; the dependency is bounded to the versions that have it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from omegaconf import DictConfig

__all__ = ["VERSION_BASE", "Callbacks", "Loader", "apply_overrides", "cells_of", "show_info"]

VERSION_BASE = "1.3"
"""Hydra's behaviour in what differs between its versions."""


class Loader(ConfigLoaderImpl):
    """Hydra's loader of one primary configuration, with all groups that its search path has.

    (Hydra's own looks for the choices of a group in the folders that it began with.)

    Args:
        folder: of the configuration.
        more: a second folder, as of Hydra's own `--config-dir`; of two files with one name the first folder's is taken.
        config_name: the primary configuration.
        search_path: the overrides of a command line that say `hydra.searchpath`.
    """

    def __init__(self, folder: Path, more: Path | None, config_name: str, search_path: list[str]) -> None:
        version.setbase(VERSION_BASE)
        setup_globals()  # resolvers
        path = create_config_search_path(str(folder))
        if more is not None:
            path.prepend("command-line", f"file://{more.absolute()}", SearchPathQuery(provider="schema"))
        super().__init__(path)
        self._config_name, self._search_path = config_name, search_path

    def get_group_options(self, group_name: str, *arguments: Any, **options: Any) -> list[str]:
        """The names that a group offers; the arguments are Hydra's."""
        options = {"config_name": self._config_name, "overrides": self._search_path, **options}
        return super().get_group_options(group_name, *arguments, **options)

    def chosen(self, group: str, config_name: str, overrides: list[str], run_mode: RunMode) -> list[str]:
        """The names that are chosen of a group, of which there may be several; the other arguments are Hydra's."""
        defaults = self.compute_defaults_list(config_name, overrides, run_mode).defaults
        paths = [str(each.config_path) for each in defaults]
        return [path.removeprefix(f"{group}/") for path in paths if path.startswith(f"{group}/")]

    def unavailable(self) -> list[str]:
        """What the search path names and is not there."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # Hydra's, of the same
            _, repository = self._parse_overrides_and_create_caching_repo(self._config_name, self._search_path)
        return [source.path for source in repository.get_sources() if not source.available()]


def show_info(loader: Loader, what: str, config_name: str, overrides: list[str]) -> None:
    """Print what Hydra's own `--info` tells of a composition."""
    Hydra("sla-ablate", loader).show_info(what, config_name, overrides)


def apply_overrides(overrides: list[Override], config: DictConfig) -> None:
    """Set values in a composed configuration, as Hydra sets those of a command line."""
    ConfigLoaderImpl._apply_overrides_to_config(overrides, config)


def cells_of(overrides: list[Override]) -> list[list[str]]:
    """The overrides of every cell of a grid, as Hydra's basic sweeper has them."""
    (cells,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    return list(cells)
