"""The plan of a command line: its overrides as checked runs, each with the folder that it belongs into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

from omegaconf import DictConfig

from sla_ablate.config.compose import CONFIG_NAME, compose, compose_cell, literal
from sla_ablate.config.extras import check_logger, check_trusted
from sla_ablate.config.machine import most_threads, natural_precision
from sla_ablate.config.schema import LimitsConfig, LoggerConfig, RunConfig, TrainerConfig
from sla_ablate.config.search_space import SearchSpace
from sla_ablate.data.classes import TokenCounts
from sla_ablate.data.shards import TokenShards, prepare, prepared
from sla_ablate.errors import InputError
from sla_ablate.files import check_inside, without_dots
from sla_ablate.patterns import SkipPattern
from sla_ablate.runs.data import finder, prepare_from
from sla_ablate.runs.identity import identify, run_folder
from sla_ablate.runs.ledger import check_folder
from sla_ablate.runs.record import FINAL, Record, read_config, read_summary
from sla_ablate.runs.sweep import LeftOut, check_all_read, read_sweep
from sla_ablate.text.telling import tell, waiting

_NO_IDENTITY = {"limits": LimitsConfig, "trainer": TrainerConfig, "logger": LoggerConfig}
"""Sections that, but for the precision, are no part of what a run is."""


@dataclass(frozen=True)
class Run:
    """One checked run."""

    config: RunConfig
    data_digest: str
    vocab_size: int
    tokenized: bool = True
    """False if its corpus is yet to be tokenized: then its folder, which is named after the tokens too, is unknown."""

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
    left_out: Sequence[LeftOut] = ()
    """Folders of a stored sweep that cannot be carried out."""


def plan(
    overrides: Sequence[str],
    multirun: bool = False,
    config_dir: Path | None = None,
    config_name: str = CONFIG_NAME,
    tokenize: bool = True,
) -> Plan:
    """Compose and check every run that the overrides ask for, and prepare its data; nothing is started.

    The arguments are those of `compose`, and whether corpora are tokenized that have not been.

    Raises:
        InputError: some override or value cannot be used; one line a fault.
    """
    with waiting("composing the runs", tell):
        hydra, configs, space = compose(overrides, multirun, config_dir, config_name)
    runs = {run.folder: run for run in _checked(configs, hydra, lambda: _tokens(configs, tokenize))}
    return Plan(list(runs.values()), len(configs), hydra, space)


def check_cell(
    overrides: Sequence[str], hydra: DictConfig, config_dir: Path | None = None, config_name: str = CONFIG_NAME
) -> Run:
    """Compose and check one run of a multirun that is launched as `hydra` says; see `compose_cell`.

    Raises:
        InputError: it is not possible.
    """
    configs = [compose_cell(overrides, config_dir, config_name)]
    (run,) = _checked(configs, hydra, lambda: _tokens(configs))
    return run


def stored_plan(
    sweep: Path,
    overrides: Sequence[str],
    config_dir: Path | None = None,
    config_name: str = CONFIG_NAME,
    trust: bool = False,
) -> Plan:
    """The runs of a sweep as their folders hold them, carried out and launched as the overrides say.

    Args:
        sweep: its folder.
        overrides: Hydra's own, and those of what is no part of a run's identity.
        config_dir: a folder with groups of the user's own.
        trust: call the functions, tell the loggers and read the corpora that the stored configurations name.

    Raises:
        InputError: a run is to be trusted first, none can be carried out, or an override would change what they are.
    """
    found = read_sweep(without_dots(sweep), read_summary)  # whose name and parents are folders, whatever `sweep` is
    check_inside(sweep)
    changed = _changed(overrides)
    left_out, configs = list(found.left_out), {}
    for stored in found.runs:
        try:
            configs[stored.folder] = read_config(stored.folder)
        except InputError as error:
            left_out.append(LeftOut(stored.folder, "unreadable", str(error)))
    hydra, (asked, *_), _ = compose(overrides, config_dir=config_dir, config_name=config_name)
    own_logger = any(override.lstrip("+").startswith("logger=") for override in overrides)
    for folder, config in configs.items():
        for section, name in changed:
            setattr(getattr(config, section), name, getattr(getattr(asked, section), name))
        if not trust:
            check_trusted(folder / "config.yaml", replace(config, logger=LoggerConfig()) if own_logger else config)
    if ("data", "path") in changed and (path := asked.data.path) is not None:
        prepare_from(path, [run.folder for run in found.runs if run.record["state"] not in FINAL])
    data_of = finder(may_prepare=trust)
    runs = []
    for stored in found.runs:
        if (folder := stored.folder) not in configs:
            continue
        config = configs[folder]
        config.output, config.sweep = str(folder.parents[1]), folder.parent.name  # it may have been moved
        try:
            runs.append(_stored(folder, stored.record, config, hydra, data_of))
        except InputError as error:
            left_out.append(LeftOut(folder, "unreadable", str(error)))
    if not runs:
        check_all_read(left_out)
    hydra.output, hydra.sweep = literal(Path(runs[0].config.output)), runs[0].config.sweep
    hydra.trainer.threads = max(run.config.trainer.threads for run in runs)
    hydra.trainer.devices = max(run.config.trainer.devices for run in runs)
    hydra.trainer.accelerator = runs[0].config.trainer.accelerator
    return Plan(runs, len(runs), hydra, left_out=left_out)


def _changed(overrides: Sequence[str]) -> list[tuple[str, str]]:
    """The keys that overrides change in stored runs, as pairs of section and name; Hydra's own change none.

    Raises:
        InputError: one is a part of what a run is.
    """
    changed = []
    for override in overrides:
        key = override.lstrip("+").partition("=")[0]
        section, _, name = key.partition(".")
        if key.startswith("hydra"):
            continue
        if key == "data.path":  # where the same data lie now
            changed.append(("data", "path"))
            continue
        if section not in _NO_IDENTITY or key == "trainer.precision":
            raise InputError(
                f"{override!r} would change stored runs; allowed: {'.…=…, '.join(_NO_IDENTITY)}.…=… but the precision, "
                "data.path=…, logger=…, hydra/launcher=… and hydra.launcher.…=…"
            )
        names = [name.split(".")[0]] if name else [each.name for each in fields(_NO_IDENTITY[section])]
        changed += [(section, each) for each in names if each != "precision"]
    return changed


def _stored(
    folder: Path, record: Record, config: RunConfig, hydra: DictConfig, data_of: Callable[[Path], TokenShards]
) -> Run:
    if record["state"] in FINAL and "data" in record:  # nothing is to be done, so its corpus need not be there
        run = Run(config, record["data"]["digest"], config.data.vocab_size)
    else:
        (run,) = _checked([config], hydra, lambda: [data_of(folder)])
    check_folder(folder, record, config, run.data_digest)
    return run


def _checked(
    configs: Sequence[RunConfig], hydra: DictConfig, data_of_each: Callable[[], Sequence[TokenShards | None]]
) -> list[Run]:
    on_other_machines = hydra.hydra.launcher._target_.endswith("SlurmLauncher")
    faults: dict[str, None] = {}
    for config in configs:
        if config.trainer.precision == "auto":
            config.trainer.precision = natural_precision(config.trainer.accelerator, on_other_machines)
        try:
            config.check()
            config.forget_unused()
            check_logger(config.logger)
            if not on_other_machines:
                _check_threads(config.trainer)
        except InputError as error:
            faults[str(error)] = None
    _raise(faults)
    _check_labels(configs)
    data = data_of_each()
    for config, shards in zip(configs, data, strict=True):
        try:
            _check_block_size(config, shards)
        except InputError as error:
            faults[str(error)] = None
    _raise(faults)
    return [_run(config, shards) for config, shards in zip(configs, data, strict=True)]


def _tokens(configs: Sequence[RunConfig], tokenize: bool = True) -> list[TokenShards | None]:
    """The tokens of each run's data; None for a corpus that is not tokenized, if none is to be."""
    shards: dict[str, TokenShards | None] = {}
    for config in configs:
        key = _data_key(config)
        if key not in shards:
            shards[key] = _tokenized(config) if tokenize else prepared(config.data)
    return [shards[_data_key(config)] for config in configs]


def _tokenized(config: RunConfig) -> TokenShards:
    shards = prepare(config.data)
    TokenCounts.of(shards, config.evaluation.tokens)
    return shards


def _run(config: RunConfig, shards: TokenShards | None) -> Run:
    if shards is None:
        return Run(config, repr(config.data), config.data.vocab_size, tokenized=False)
    return Run(config, shards.digest, shards.tokenizer.vocab_size)


def _data_key(config: RunConfig) -> str:
    return repr((config.data, config.evaluation))


def _raise(faults: dict[str, None]) -> None:
    if faults:
        raise InputError("\n".join(faults))


def _check_labels(configs: Sequence[RunConfig]) -> None:
    """Make sure that no label of the user's own is given to several patterns of one model."""
    patterns: dict[tuple[str, int, int], SkipPattern] = {}
    for config in configs:
        if config.pattern.label is not None:
            key = (config.pattern_label(), config.model.n_layer, config.model.n_head)
            if patterns.setdefault(key, pattern := config.skip_pattern()) != pattern:
                raise InputError(
                    f"pattern.label={config.pattern.label} is given to several patterns; have it tell them apart, "
                    f"as 'pattern.label=\"{config.pattern.label} ${{pattern.distance}}\"' does"
                )


def _check_threads(trainer: TrainerConfig) -> None:
    threads, most = trainer.devices * (trainer.threads + trainer.workers), most_threads()
    if threads > most:
        raise InputError(
            f"trainer.devices={trainer.devices}, trainer.threads={trainer.threads} and trainer.workers="
            f"{trainer.workers} are {threads} threads in all; this machine has at most {most}"
        )


def _check_block_size(config: RunConfig, shards: TokenShards | None) -> None:
    if shards is None:
        return
    tokens, block_size = len(shards.train), config.model.block_size
    if block_size >= tokens:
        raise InputError(
            f"model.block_size={block_size} is longer than the training split of {tokens} tokens; "
            f"choose at most {tokens - 1}"
        )
