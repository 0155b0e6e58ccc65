"""The plan of a command line: its overrides as checked runs, each with the folder that it belongs into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from omegaconf import DictConfig

from sla_ablate.config.compose import compose, compose_cell
from sla_ablate.config.extras import check_logger
from sla_ablate.config.machine import natural_precision
from sla_ablate.config.schema import RunConfig
from sla_ablate.config.search_space import SearchSpace
from sla_ablate.data.classes import TokenCounts
from sla_ablate.data.shards import TokenShards, prepare
from sla_ablate.errors import InputError
from sla_ablate.runs.identity import identify, run_folder, run_folders
from sla_ablate.runs.ledger import check_folder
from sla_ablate.runs.record import read_config, read_summary
from sla_ablate.telling import tell, waiting


@dataclass(frozen=True)
class Run:
    """One checked run."""

    config: RunConfig
    data_digest: str
    vocab_size: int

    @cached_property
    def folder(self) -> Path:
        """The folder of its files."""
        return run_folder(self.config, identify(self.config, self.data_digest))


@dataclass(frozen=True)
class Plan:
    """What a command line asks for."""

    runs: list[Run]
    """Different runs, each once."""
    asked: int
    """Runs asked for; more than there are where a pattern ignores an option that was swept."""
    hydra: DictConfig
    """What was composed for all of them: how runs are launched."""
    space: SearchSpace | None = None
    """What Optuna chooses the runs from, if it does; `runs` are then its corners."""


def plan(overrides: Sequence[str], multirun: bool = False, config_dir: Path | None = None) -> Plan:
    """Compose and check every run that the overrides ask for, and prepare its data; nothing is started.

    The arguments are those of `compose`.

    Raises:
        InputError: some override or value cannot be used; one line a fault.
    """
    with waiting("composing the runs", tell):
        hydra, configs, space = compose(overrides, multirun, config_dir)
    runs = {run.folder: run for run in _checked(configs, hydra)}
    return Plan(list(runs.values()), len(configs), hydra, space)


def check_cell(overrides: Sequence[str], hydra: DictConfig, config_dir: Path | None = None) -> Run:
    """Compose and check one run of a multirun that is launched as `hydra` says; see `compose_cell`.

    Raises:
        InputError: it is not possible.
    """
    (run,) = _checked([compose_cell(overrides, config_dir)], hydra)
    return run


def stored_plan(sweep: Path, overrides: Sequence[str], config_dir: Path | None = None) -> Plan:
    """The runs of a sweep as their folders hold them, to be launched as Hydra's own overrides say.

    Raises:
        InputError: a folder does not hold what its name says, or an override is none of Hydra's.
    """
    folders = run_folders(sweep.absolute())
    configs = [read_config(folder) for folder in folders]
    for config, folder in zip(configs, folders, strict=True):
        config.output, config.sweep = str(folder.parents[1]), folder.parent.name  # it may have been moved
    for override in overrides:
        if not override.startswith("hydra"):
            raise InputError(f"{override!r} would change stored runs; allowed: hydra/launcher=… and hydra.launcher.…=…")
    hydra = compose(overrides, config_dir=config_dir).hydra
    runs = _checked(configs, hydra)
    for folder, run in zip(folders, runs, strict=True):
        if record := read_summary(folder):
            check_folder(folder, record, identify(run.config, run.data_digest), run.data_digest)
    hydra.output, hydra.sweep = configs[0].output, configs[0].sweep
    hydra.trainer.threads = max(run.config.trainer.threads for run in runs)
    hydra.trainer.devices = max(run.config.trainer.devices for run in runs)
    hydra.trainer.accelerator = configs[0].trainer.accelerator
    return Plan(runs, len(runs), hydra)


def _checked(configs: Sequence[RunConfig], hydra: DictConfig) -> list[Run]:
    on_other_machines = hydra.hydra.launcher._target_.endswith("SlurmLauncher")
    faults: dict[str, None] = {}
    for config in configs:
        if config.trainer.precision == "auto":
            config.trainer.precision = natural_precision(config.trainer.accelerator, on_other_machines)
        try:
            config.check()
            check_logger(config.logger)
        except InputError as error:
            faults[str(error)] = None
    _raise(faults)
    shards: dict[str, TokenShards] = {}
    for config in configs:
        key = _data_key(config)
        if key not in shards:
            shards[key] = prepare(config.data)
            TokenCounts.of(shards[key], config.evaluation.tokens)
        try:
            _check_block_size(config, shards[key])
        except InputError as error:
            faults[str(error)] = None
    _raise(faults)
    data = [shards[_data_key(config)] for config in configs]
    return [Run(c, d.digest, d.tokenizer.vocab_size) for c, d in zip(configs, data, strict=True)]


def _data_key(config: RunConfig) -> str:
    return repr((config.data, config.evaluation))


def _raise(faults: dict[str, None]) -> None:
    if faults:
        raise InputError("\n".join(faults))


def _check_block_size(config: RunConfig, shards: TokenShards) -> None:
    tokens, block_size = len(shards.train), config.model.block_size
    if block_size >= tokens:
        raise InputError(
            f"model.block_size={block_size} is longer than the training split of {tokens} tokens; "
            f"choose at most {tokens - 1}"
        )
