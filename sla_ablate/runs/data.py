"""The tokens that runs were entered with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path

from sla_ablate.data.config import DataConfig
from sla_ablate.data.shards import TokenShards, prepare, prepared_in
from sla_ablate.errors import InputError
from sla_ablate.runs.identity import setting_of
from sla_ablate.runs.record import existing_summary, read_config


def prepare_from(path: str, runs: Iterable[Path]) -> None:
    """Prepare the corpus of runs from where it lies now, in the user's own cache, so that it is found by what it is.

    Args:
        path: `data.path`, in the place of the one in the runs' configurations.
        runs: their folders.

    Raises:
        InputError: a run was trained with other data, or the corpus cannot be read.
    """
    made: dict[str, TokenShards] = {}
    for run in runs:
        config = read_config(run)
        data = replace(config.data, path=path, cache=DataConfig().cache)
        key = repr(data)
        made[key] = shards = made.get(key) or prepare(data)
        if setting_of(config, shards.digest) != existing_summary(run)["setting"]:
            raise InputError(f"data.path={path} holds other data than {run} was trained with")


def data_of_all(runs: Iterable[Path], may_prepare: bool = False) -> list[TokenShards]:
    """The tokens that each run was entered with; see `finder`."""
    return list(map(finder(may_prepare), runs))


def finder(may_prepare: bool = False) -> Callable[[Path], TokenShards]:
    """A function from a run's folder to the tokens that it was entered with, wherever the corpus lies now.

    They are looked for by what they are, in the cache that the run's configuration names and in the user's own, and
    nothing is written. The function raises an InputError where they are nowhere, or the configuration names another
    model than the record.

    Args:
        may_prepare: else read the corpus that the configuration names, and write its tokens to the cache that it names.
    """
    held, opened = cache(lambda name: list(prepared_in(name))), cache(TokenShards.open)
    made: dict[str, TokenShards] = {}

    def find(run: Path) -> TokenShards:
        config, setting = read_config(run), existing_summary(run)["setting"]
        caches = dict.fromkeys([config.data.cache, DataConfig().cache])
        folders = (
            folder for digest, folder in chain.from_iterable(map(held, caches)) if setting_of(config, digest) == setting
        )
        if folder := next(folders, None):
            return opened(folder)
        if may_prepare:
            key = repr(config.data)
            made[key] = shards = made.get(key) or prepare(config.data)
            if setting_of(config, shards.digest) == setting:
                return shards
        readable = {folder for _, folder in chain.from_iterable(map(held, caches))}
        manifests = (path for name in caches for path in Path(name).expanduser().glob("*/manifest.json"))
        others = [str(path) for path in manifests if path.parent not in readable]
        raise InputError(
            f"{run / 'config.yaml'} names other data, or another model, than the run was trained with, or data that"
            f" are not prepared in {' or '.join(caches)}; say where they are with data.path=…, or add --trust"
            + (f" (not readable: {', '.join(others)})" if others else "")
        )

    return find
