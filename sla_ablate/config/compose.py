"""From a command line's overrides to checked runs, by Hydra's composition."""

from __future__ import annotations

import copy
import operator
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

import sla_ablate
from sla_ablate.config.schema import RunConfig
from sla_ablate.data.shards import TokenShards, prepare
from sla_ablate.errors import InputError, unknown
from sla_ablate.launch.devices import visible_devices
from sla_ablate.runs.ledger import check_folder
from sla_ablate.runs.record import identify, read_config, read_summary, run_folder, run_folders
from sla_ablate.training import loggers

if TYPE_CHECKING:
    from sla_ablate.config.search_space import SearchSpace  # imports Optuna

OPTIONAL_GROUPS = ("experiment", "scale")
EXTRAS = {
    ("hydra/launcher", "local"): ("hydra-joblib-launcher", "joblib"),
    ("hydra/launcher", "joblib"): ("hydra-joblib-launcher", "joblib"),
    ("hydra/launcher", "slurm"): ("hydra-submitit-launcher", "slurm"),
    ("hydra/launcher", "slurm_local"): ("hydra-submitit-launcher", "slurm"),
    ("hydra/launcher", "ray"): ("ray", "ray"),
    ("hydra/sweeper", "optuna"): ("optuna", "optuna"),
}
"""What a choice needs that may not be installed: its distribution, and the extra of this package that brings it."""


def data_root() -> Path:
    """The folder that holds `conf/` and `experiments/`: inside an installed package, or the checkout."""
    package = Path(sla_ablate.__file__).parent
    installed = package / "_data"
    return installed if installed.is_dir() else package.parent


def parallel_runs(threads: int, devices: int, accelerator: str) -> int:
    """How many runs of so many devices, of so many threads each, go at a time: on the GPUs, else on the cores."""
    if gpus := visible_devices(accelerator):
        return max(1, len(gpus) // devices)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // (threads * devices))


# At import, so that a launcher's worker processes know them too.
OmegaConf.register_new_resolver("parallel_runs", parallel_runs, replace=True)
OmegaConf.register_new_resolver("product", operator.mul, replace=True)
OmegaConf.register_new_resolver("gpus", lambda devices, on: None if on == "cpu" else devices, replace=True)
ConfigStore.instance().store(name="schema", node=RunConfig)


@dataclass(frozen=True)
class Run:
    """One checked run."""

    config: RunConfig
    data_digest: str
    vocab_size: int

    @cached_property
    def folder(self) -> Path:
        """Where its files are."""
        return run_folder(self.config, identify(self.config, self.data_digest))


@dataclass(frozen=True)
class Plan:
    """What a command line asks for."""

    runs: list[Run]
    """Different runs, each once."""
    asked: int
    """Runs asked for; more than there are where a pattern ignores an option that was swept."""
    hydra: DictConfig
    """Composed for the whole: how runs are launched."""
    space: SearchSpace | None = None
    """Where Optuna chooses the runs: from what. `runs` are then its corners."""


def plan(overrides: Sequence[str], multirun: bool = False) -> Plan:
    """Compose and check every run that the overrides ask for, and prepare its data; starts nothing.

    Raises:
        InputError: some override or value cannot be used; one line a fault.
    """
    hydra, configs, space = _compose(overrides, multirun)
    runs = {run.folder: run for run in _checked(configs)}
    return Plan(list(runs.values()), len(configs), hydra, space)


def check_cell(overrides: Sequence[str]) -> Run:
    """Compose and check one run of a multirun.

    Raises:
        InputError: it is not possible.
    """
    with _Composer() as compose, _OneLine():
        configs = _cells(compose, [list(overrides)], _OverrideChecker().groups)
    (run,) = _checked(configs)
    return run


def stored_plan(sweep: Path, overrides: Sequence[str]) -> Plan:
    """The runs of a sweep as their folders hold them, to be launched as Hydra's own overrides say.

    Raises:
        InputError: a folder does not hold what its name says, or an override is none of Hydra's.
    """
    folders = run_folders(sweep.absolute())
    configs = [read_config(folder) for folder in folders]
    for config, folder in zip(configs, folders, strict=True):
        config.output, config.sweep = str(folder.parents[1]), folder.parent.name  # it may have been moved
    runs = _checked(configs)
    for override in overrides:
        if not override.startswith("hydra"):
            raise InputError(f"{override!r} would change stored runs; allowed: hydra/launcher=… and hydra.launcher.…=…")
    for folder, run in zip(folders, runs, strict=True):
        if record := read_summary(folder):
            check_folder(folder, record, identify(run.config, run.data_digest), run.data_digest)
    hydra, *_ = _compose(overrides, multirun=False)
    hydra.output, hydra.sweep = configs[0].output, configs[0].sweep
    hydra.trainer.threads = max(run.config.trainer.threads for run in runs)
    hydra.trainer.devices = max(run.config.trainer.devices for run in runs)
    hydra.trainer.accelerator = configs[0].trainer.accelerator
    return Plan(runs, len(runs), hydra)


def _checked(configs: Sequence[RunConfig]) -> list[Run]:
    faults: dict[str, None] = {}
    for config in configs:
        try:
            config.check()
            loggers.check(config.logger)
        except InputError as error:
            faults[str(error)] = None
    _raise(faults)
    shards: dict[str, TokenShards] = {}
    for config in configs:
        key = repr(config.data)
        if key not in shards:
            shards[key] = prepare(config.data)
        try:
            _check_block_size(config, shards[key])
        except InputError as error:
            faults[str(error)] = None
    _raise(faults)
    data = [shards[repr(config.data)] for config in configs]
    return [Run(c, d.digest, d.tokenizer.vocab_size) for c, d in zip(configs, data, strict=True)]


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


def compose_all(overrides: Sequence[str], multirun: bool = False) -> list[RunConfig]:
    """The configurations of a command line: one, or every cell of the multirun.

    Raises:
        InputError: an override names something that does not exist, or a value of the wrong type.
    """
    return _compose(overrides, multirun)[1]


def _compose(overrides: Sequence[str], multirun: bool) -> tuple[DictConfig, list[RunConfig], SearchSpace | None]:
    """Also what all of it has in common, and from what Optuna is to choose, if it is."""
    with _Composer() as compose, _OneLine():
        checker = _OverrideChecker()
        parsed = _parse(overrides)
        for override in parsed:
            checker.check(override)
        # An experiment may ask for a multirun; compose without the sweeps to learn that.
        full = compose([o.input_line for o in parsed if not o.is_sweep_override()], multirun)
        swept = full.hydra.sweeper.get("params") or {}
        if not multirun and full.hydra.mode != RunMode.MULTIRUN:
            for override in parsed:
                if override.is_sweep_override():
                    raise InputError(f"{override.input_line!r} has several values; add -m to run each of them")
            return full, [_typed(full)], None
        cells = [f"{key}={value}" for key, value in swept.items()] + list(overrides)
        for override in _parse(cells[: len(swept)]):
            checker.check(override)
        space = _search_space(full, _parse(cells))
        if space is not None:
            batch = space.corners()
        else:
            (batch,) = BasicSweeper.split_arguments(_parse(cells), max_batch_size=None)
        return full, _cells(compose, batch, checker.groups), space


def _search_space(full: DictConfig, overrides: Sequence[Override]) -> SearchSpace | None:
    if full.hydra.runtime.choices["hydra/sweeper"] != "optuna":
        return None
    check_installed("hydra/sweeper", "optuna")  # an experiment may have chosen it
    for name in ("n_trials", "n_jobs"):
        value = full.hydra.sweeper[name]
        if not (isinstance(value, int) and value >= 1):
            raise InputError(f"hydra.sweeper.{name}={value} is not possible; choose 1 or more")
    from sla_ablate.config.search_space import SearchSpace

    return SearchSpace.of(overrides)


def _cells(
    compose: Callable[[Sequence[str]], DictConfig], batch: list[list[str]], groups: list[str]
) -> list[RunConfig]:
    """The cells of a multirun.

    Hydra takes a tenth of a second to compose one, so those that choose the same groups share one composition, upon
    which their values are set as Hydra sets them.
    """
    parse = cache(OverridesParser.create().parse_override)
    composed: dict[tuple[str, ...], DictConfig] = {}
    cells = []
    for overrides in batch:
        parsed = [parse(text) for text in overrides]
        choices = tuple(text for text, o in zip(overrides, parsed, strict=True) if o.key_or_group in groups)
        if choices not in composed:
            composed[choices] = compose(choices)
            with open_dict(composed[choices]):
                del composed[choices]["hydra"]
        config = copy.deepcopy(composed[choices])
        values = [o for o in parsed if o.key_or_group not in groups and not o.key_or_group.startswith("hydra")]
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        cells.append(_typed(config))
    return cells


def complete(arguments: Sequence[str]) -> None:
    """Hydra's own shell completion, over the project's configuration."""
    sys.argv = ["sla-ablate", *arguments]
    hydra.main(config_path=str(data_root() / "conf"), config_name="config", version_base="1.3")(lambda config: None)()


def describe() -> str:
    """Groups with their choices, and every key with its default value."""
    with _Composer() as compose:
        loader = GlobalHydra.instance().config_loader()
        groups = {
            group: sorted(loader.get_group_options(group, results_filter=ObjectType.CONFIG))
            for group in loader.list_groups("")
            if group != "hydra"
        }
        config = _typed(compose([]))
    lines = ["groups (GROUP=NAME):", *(f"  {group}: {', '.join(names)}" for group, names in groups.items())]
    return "\n".join(
        [
            *lines,
            "",
            "keys (KEY=VALUE) and their defaults:",
            _indent(OmegaConf.to_yaml(OmegaConf.structured(config))),
        ]
    )


def choices(group: str) -> list[str]:
    """The names that a configuration group offers."""
    with _Composer():
        loader = GlobalHydra.instance().config_loader()
        return sorted(loader.get_group_options(group, results_filter=ObjectType.CONFIG))


def _indent(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def _typed(config: DictConfig) -> RunConfig:
    """A composed configuration as dataclasses; unknown keys were rejected before."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    values.pop("hydra", None)
    return RunConfig.from_dict({str(key): value for key, value in values.items()})


class _Composer:
    """Hydra's composition of the project's configuration, as a context."""

    def __enter__(self) -> Any:
        GlobalHydra.instance().clear()
        self._context = hydra.initialize_config_dir(
            str(data_root() / "conf"), job_name="sla-ablate", version_base="1.3"
        )
        self._context.__enter__()
        return self.compose

    def compose(self, overrides: Sequence[str], multirun: bool = False) -> DictConfig:
        mode = RunMode.MULTIRUN if multirun else RunMode.RUN
        loader = GlobalHydra.instance().config_loader()
        config: DictConfig = loader.load_configuration("config", list(overrides), run_mode=mode)
        return config

    def __exit__(self, *exception: object) -> None:
        self._context.__exit__(*exception)
        GlobalHydra.instance().clear()


class _OverrideChecker:
    """Names that an override may have; Hydra's own messages take ten lines, or none for `+typo=1`."""

    def __init__(self) -> None:
        self.loader = GlobalHydra.instance().config_loader()
        self.groups = [g for g in self.loader.list_groups("") if g != "hydra"]
        self.keys = [k for k in _flat_keys(OmegaConf.structured(RunConfig)) if k not in self.groups]

    def check(self, override: Override) -> None:
        key = override.key_or_group
        if key in ("hydra/launcher", "hydra/sweeper"):
            self._check_installed(override)
        if key.startswith("hydra"):
            return
        if override.is_delete():
            raise InputError(f"{override.input_line!r} deletes an option; give it a value instead")
        if key in self.groups:
            options = self.loader.get_group_options(key, results_filter=ObjectType.CONFIG)
            allowed = [*sorted(options), *(["null"] if key in OPTIONAL_GROUPS else [])]
            for value in _values(override):
                if ("null" if value is None else value) not in allowed:
                    raise unknown(key, value, allowed)
        elif key not in self.keys:
            section = [k for k in self.keys if k.startswith(key.split(".")[0] + ".")]
            raise unknown("option", key, section or [*self.groups, *(k for k in self.keys if "." not in k)])

    def _check_installed(self, override: Override) -> None:
        group = override.key_or_group
        options = self.loader.get_group_options(group, results_filter=ObjectType.CONFIG)
        for value in _values(override):
            check_installed(group, value)
            if value not in options:
                raise unknown(group, value, sorted(set(options)))
            if value == "slurm" and shutil.which("srun") is None:
                raise InputError(
                    "hydra/launcher=slurm needs Slurm, and there is no srun; hydra/launcher=slurm_local does without"
                )


def check_installed(group: str, choice: str) -> None:
    """Make sure of what a launcher or sweeper needs beside this package.

    Raises:
        InputError: it is not installed.
    """
    if needed := EXTRAS.get((group, choice)):
        distribution, extra = needed
        try:
            version(distribution)
        except PackageNotFoundError:
            raise InputError(f"{group}={choice} needs {distribution}; run: pip install 'sla-ablate[{extra}]'") from None


def _values(override: Override) -> list[Any]:
    if override.is_sweep_override():
        return list(override.sweep_iterator())
    return [override.value()]


def _flat_keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config):
        yield f"{prefix}{key}"
        if isinstance(config._get_node(key), DictConfig):
            yield from _flat_keys(config[key], f"{prefix}{key}.")


def _parse(overrides: Sequence[str]) -> list[Override]:
    parser = OverridesParser.create()
    parsed = []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except HydraException:
            raise InputError(
                f"{text!r} is no override; write GROUP=NAME or KEY=VALUE and quote special characters"
            ) from None
    return parsed


class _OneLine:
    """Turns Hydra's and OmegaConf's errors into an InputError of one line."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, HydraException | OmegaConfBaseException):
            return
        cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        key = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("full_key:")), "")
        raise InputError(f"{key}: {lines[0]}" if key else " ".join(lines[:2])) from error
