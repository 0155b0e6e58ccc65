"""Hydra's composition: what the overrides of a command line come to, with one line for what they cannot."""

from __future__ import annotations

import copy
import math
import operator
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from sla_ablate.config.bounds import check_hydra_numbers
from sla_ablate.config.extras import check_installed
from sla_ablate.config.hydra_internals import VERSION_BASE, Loader, apply_overrides, cells_of, show_info
from sla_ablate.config.machine import parallel_runs
from sla_ablate.config.root import data_root
from sla_ablate.config.schema import RunConfig
from sla_ablate.config.search_space import SearchSpace
from sla_ablate.config.uses import OPEN, check_used
from sla_ablate.data.config import BUILT_IN
from sla_ablate.errors import InputError, unknown
from sla_ablate.files import absolute

OPTIONAL_GROUPS = ("experiment", "scale")
CONFIG_NAME = "config"
"""Our primary configuration, `conf/config.yaml`."""
LAUNCHING = ("launcher", "sweeper")
MOST_RUNS = 100_000
"""More runs than one sweep has."""


# At import, so that a launcher's worker processes know them too.
OmegaConf.register_new_resolver("parallel_runs", parallel_runs, replace=True)
OmegaConf.register_new_resolver("product", operator.mul, replace=True)
OmegaConf.register_new_resolver("gpus", lambda devices, on: None if on == "cpu" else devices, replace=True)
ConfigStore.instance().store(name="schema", node=RunConfig)


class Composed(NamedTuple):
    """What a command line comes to."""

    hydra: DictConfig
    """What all of its runs have in common: how they are launched."""
    configs: list[RunConfig]
    """One run's, or those of every cell of the multirun."""
    space: SearchSpace | None = None
    """What Optuna chooses the runs from, if it does; `configs` are then its corners."""


def compose(
    overrides: Sequence[str], multirun: bool = False, config_dir: Path | None = None, config_name: str = CONFIG_NAME
) -> Composed:
    """Compose what the overrides of a command line ask for.

    Args:
        overrides: those of a command line.
        multirun: True if they may ask for several runs.
        config_dir: a folder with groups of the user's own.
        config_name: the primary configuration, ours or one in that folder.

    Raises:
        InputError: an override names something that does not exist or that no run has a use for, or has a value of
            the wrong type, or one that no launcher or sweeper takes.
    """
    with _one_line():
        composer = _Composer(overrides, config_dir, config_name)
        checker = _OverrideChecker(composer)
        parsed = composer.parse(overrides)
        for override in parsed:
            checker.check(override)
        # An experiment may ask for a multirun; compose without the sweeps to learn that.
        full = composer([str(o.input_line) for o in parsed if not o.is_sweep_override()], multirun)
        full.output = literal(absolute(full.output))
        check_hydra_numbers({part: OmegaConf.to_container(full.hydra[part], resolve=True) for part in LAUNCHING})
        swept = full.hydra.sweeper.get("params") or {}
        if not multirun and full.hydra.mode != RunMode.MULTIRUN:
            _refuse_sweeps(parsed, "add -m to run each of them")
            single = _typed(full)
            check_used(parsed, [single])
            return Composed(full, [_with_absolute_paths(single)])
        cells = composer.parse([*(f"{key}={value}" for key, value in swept.items()), *overrides])
        for override in cells[: len(swept)]:
            checker.check(override)
        space = _search_space(full, cells)
        batch = _grid(cells) if space is None else space.corners()
        configs = _cells(composer, batch)
        check_used(cells, configs)
        return Composed(full, list(map(_with_absolute_paths, configs)), space)


def compose_cell(overrides: Sequence[str], config_dir: Path | None = None, config_name: str = CONFIG_NAME) -> RunConfig:
    """Compose one run of a multirun; the arguments are those of `compose`.

    Raises:
        InputError: it is not possible.
    """
    with _one_line():
        (config,) = _cells(_Composer(overrides, config_dir, config_name), [list(overrides)])
    return _with_absolute_paths(config)


def literal(folder: Path) -> str:
    """A folder's name as it may stand in what Hydra composes.

    Raises:
        InputError: Hydra would read a part of it as a variable.
    """
    if "${" in (name := str(folder)):
        raise InputError(f"the folder {name!r} has a name in which Hydra reads a variable; rename it or choose another")
    return name


def show(
    overrides: Sequence[str],
    what: str,
    resolve: bool = False,
    package: str | None = None,
    config_dir: Path | None = None,
    config_name: str = CONFIG_NAME,
) -> str:
    """What Hydra's own `--cfg` prints of one run's composition, as YAML.

    Args:
        overrides: those of a command line.
        what: `job`, `hydra` or `all`.
        resolve: True if interpolations are replaced by their values.
        package: the only key to show, with what is below it.
        config_dir, config_name: as of `compose`.

    Raises:
        InputError: as `compose`, or there is no such key.
    """
    with _one_line():
        full = _single(overrides, config_dir, config_name)
        shown: Any = OmegaConf.create(OmegaConf.to_container(full, resolve=True)) if resolve else copy.deepcopy(full)
        with (
            flag_override(shown, ["struct", "readonly"], False),
            flag_override(shown.hydra, ["struct", "readonly"], False),
        ):
            for key in map(str, list(shown)):
                if what != "all" and (key == "hydra") != (what == "hydra"):
                    del shown[key]
            if what == "hydra":
                del shown.hydra["help"], shown.hydra["hydra_help"]
        if package is None or package == "_global_":
            return OmegaConf.to_yaml(shown)
        chosen = OmegaConf.select(shown, package)
        if chosen is None:
            raise unknown("--package", package, _flat_keys(shown))
        return f"# @package {package}\n{OmegaConf.to_yaml(chosen)}" if OmegaConf.is_config(chosen) else f"{chosen}\n"


def print_info(
    overrides: Sequence[str], what: str, config_dir: Path | None = None, config_name: str = CONFIG_NAME
) -> None:
    """Print what Hydra's own `--info` tells of one run's composition; the arguments are as those of `show`."""
    with _one_line():
        _single(overrides, config_dir, config_name)
        composer = _Composer(overrides, config_dir, config_name)
        show_info(composer.loader, what, config_name, [str(o.input_line) for o in composer.parse(overrides)])


def _single(overrides: Sequence[str], config_dir: Path | None, config_name: str) -> DictConfig:
    """The composition of one run, Hydra's part included."""
    composer = _Composer(overrides, config_dir, config_name)
    parsed = composer.parse(overrides)
    _refuse_sweeps(parsed, "choose one, to have one run shown")
    compose(overrides, config_dir=config_dir, config_name=config_name)  # which checks them
    full = composer([str(override.input_line) for override in parsed])
    HydraConfig.instance().set_config(full)  # for ${hydra:…}
    return full


def _refuse_sweeps(overrides: Sequence[Override], choice: str) -> None:
    for override in overrides:
        if override.is_sweep_override():
            told = str(override.input_line).removeprefix("++")
            raise InputError(f"{told!r} has several values; {choice}")


def _grid(overrides: Sequence[Override]) -> list[list[str]]:
    """The cells of every combination of values; of two overrides with one key the later counts."""
    latest = {override.get_key_element(): override for override in overrides}
    for override in latest.values():
        if override.is_interval_sweep():
            raise InputError(
                f"{override.input_line!r} has no end of values; write a,b,c or range(…), or choose hydra/sweeper=optuna"
            )
    if (runs := math.prod(len(_values(override)) for override in latest.values())) > MOST_RUNS:
        raise InputError(f"more than {MOST_RUNS:,} runs are asked for, at least {runs:,}; sweep over fewer values")
    return cells_of(list(overrides))


def _search_space(full: DictConfig, overrides: Sequence[Override]) -> SearchSpace | None:
    if full.hydra.runtime.choices["hydra/sweeper"] != "optuna":
        return None
    check_installed("hydra/sweeper", "optuna")  # an experiment may have chosen it
    return SearchSpace.of(overrides)


def _cells(composer: _Composer, batch: list[list[str]]) -> list[RunConfig]:
    """The cells of a multirun.

    Hydra takes a tenth of a second to compose one, so those that choose the same groups share one composition, upon
    which their values are set as Hydra sets them.
    """
    parse = cache(OverridesParser.create().parse_override)
    composed: dict[tuple[str, ...], DictConfig] = {}
    cells = []
    for overrides in batch:
        parsed = [parse(text) for text in overrides]
        choices = tuple(text for text, o in zip(overrides, parsed, strict=True) if o.key_or_group in composer.groups)
        if choices not in composed:
            composed[choices] = composer(choices)
            with open_dict(composed[choices]):
                del composed[choices]["hydra"]
        config = copy.deepcopy(composed[choices])
        values = [o for o in parsed if o.key_or_group not in composer.groups and not o.key_or_group.startswith("hydra")]
        apply_overrides(values, config)
        cells.append(_typed(config))
    return cells


def install_completion(arguments: Sequence[str]) -> None:
    """Hydra's own `--shell-completion install=SHELL` and `uninstall=SHELL`: print the script that asks for words."""
    sys.argv = ["sla-ablate", "--shell-completion", *arguments]
    hydra.main(config_path=str(data_root() / "conf"), config_name="config", version_base=VERSION_BASE)(str)()


def primary(config_dir: Path | None, config_name: str) -> tuple[RunConfig, dict[str, list[str]]]:
    """One run of a primary configuration and the choices of each group; the arguments are those of `compose`."""
    with _one_line():
        composer = _Composer([], config_dir, config_name)
        return _typed(composer([])), {group: composer.choices(group) for group in composer.groups}


def choices(
    group: str, overrides: Sequence[str] = (), config_dir: Path | None = None, config_name: str = CONFIG_NAME
) -> list[str]:
    """The names that a configuration group offers; the other arguments are those of `compose`."""
    with _one_line():
        return _Composer(overrides, config_dir, config_name).choices(group)


def _typed(config: DictConfig) -> RunConfig:
    """A composed configuration as dataclasses; unknown keys were rejected before."""
    return RunConfig.from_dict(
        {
            str(key): OmegaConf.to_container(config[key], resolve=True)
            if OmegaConf.is_config(config[key])
            else config[key]
            for key in config
            if key != "hydra"
        }
    )


def _with_absolute_paths(config: RunConfig) -> RunConfig:
    """Have a run find its files from any folder; what is in a home stays so, for whose home it is may change."""
    config.output = str(absolute(config.output))
    is_built_in = config.data.tokenizer in BUILT_IN or not absolute(config.data.tokenizer).exists()  # else told later
    for name in ("path", "cache", *([] if is_built_in else ["tokenizer"])):
        path: str | None = getattr(config.data, name)
        if path is not None:
            setattr(config.data, name, path if path == "~" or path.startswith("~/") else str(absolute(path)))
    uri = config.logger.tracking_uri or ""
    database = "sqlite:///" if uri.startswith("sqlite:///") else ""
    if database or not (uri in ("", "databricks") or ":" in uri):
        config.logger.tracking_uri = f"{database}{absolute(uri.removeprefix(database))}"
    return config


class _Composer:
    """Hydra's composition of the project's configuration, and of folders of the user's beside it."""

    def __init__(self, overrides: Sequence[str], config_dir: Path | None, config_name: str) -> None:
        literal(Path.cwd())
        self.search_path = [text for text in overrides if text.lstrip("+").startswith("hydra.searchpath=")]
        self.config_name = config_name
        self.loader = Loader(data_root() / "conf", config_dir, config_name, self.search_path)
        for folder in self.loader.unavailable():
            raise InputError(f"hydra.searchpath: {folder!r} does not exist; give folders, as [DIR,…]")
        if config_name not in (names := sorted(set(self.choices("")) - {"schema", "_dummy_empty_config_"})):
            raise unknown("--config-name", config_name, names)
        self.groups = [group for group in self.loader.list_groups("") if group != "hydra"]

    def __call__(self, overrides: Sequence[str], multirun: bool = False) -> DictConfig:
        mode = RunMode.MULTIRUN if multirun else RunMode.RUN
        asked = [*(text for text in self.search_path if text not in overrides), *overrides]
        config = self.loader.load_configuration(self.config_name, asked, run_mode=mode)
        if "logger" not in config.hydra.runtime.choices:  # several, of which Hydra merges all but the name
            chosen = self.loader.chosen("logger", self.config_name, asked, mode)
            if chosen and config.logger.name == chosen[-1]:
                config.logger.name = ",".join(chosen)
        return config

    def parse(self, overrides: Sequence[str]) -> list[Override]:
        """The overrides, parsed."""
        parsed = _parse(overrides)
        for override in parsed:
            override.config_loader = self.loader  # which knows what glob(…) stands for
        return parsed

    def choices(self, group: str) -> list[str]:
        return sorted(set(self.loader.get_group_options(group, results_filter=ObjectType.CONFIG)))


class _OverrideChecker:
    """Names that an override may have; Hydra's own messages take ten lines, or none for `+typo=1`."""

    def __init__(self, composer: _Composer) -> None:
        self.composer = composer
        self.groups = composer.groups
        self.keys = [k for k in _flat_keys(OmegaConf.structured(RunConfig)) if k not in self.groups]

    def check(self, override: Override) -> None:
        key = override.key_or_group
        if key.startswith("hydra"):
            _refuse_sweeps([override], "choose one, as all runs are launched alike")
            if key in ("hydra/launcher", "hydra/sweeper"):
                self._check_installed(override)
            return
        if override.is_delete():
            raise InputError(f"{override.input_line!r} deletes an option; give it a value instead")
        if key in self.groups:
            allowed = [*self.composer.choices(key), *(["null"] if key in OPTIONAL_GROUPS else [])]
            for values in _values(override):
                for value in values if isinstance(values, list) and key == "logger" else [values]:
                    if ("null" if value is None else value) not in allowed:
                        raise unknown(key, value, allowed)
        elif key not in self.keys and not key.startswith(f"{OPEN}."):
            section = [k for k in self.keys if k.startswith(key.split(".")[0] + ".")]
            raise unknown("option", key, section or [*self.groups, *(k for k in self.keys if "." not in k)])

    def _check_installed(self, override: Override) -> None:
        group = override.key_or_group
        options = self.composer.choices(group)
        for value in _values(override):
            check_installed(group, value)
            if value not in options:
                raise unknown(group, value, options)
            if value == "slurm" and shutil.which("srun") is None:
                raise InputError(
                    "hydra/launcher=slurm needs Slurm, and there is no srun; hydra/launcher=slurm_local does without"
                )


def _values(override: Override) -> list[Any]:
    """The values of an override, of a long sweep the first more than `MOST_RUNS`.

    Raises:
        InputError: they are not countable, or there are none.
    """
    if not override.is_sweep_override():
        return [override.value()]
    if override.is_interval_sweep():
        raise InputError(f"{override.input_line!r} is no choice of names; write a,b,c or glob(…)")
    try:
        values = list(islice(override.sweep_iterator(), MOST_RUNS + 1))
    except (ValueError, ArithmeticError) as error:
        raise InputError(f"{override.input_line!r} is no sweep: {error}") from None
    if not values:
        raise InputError(f"{override.input_line!r} has no values, so there would be no runs")
    return values


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
            # Hydra would have the user write the signs for keys that are new.
            parsed.append(parser.parse_override(f"++{text}" if text.startswith(OPEN) else text))
        except (HydraException, ValueError, RecursionError):  # the last two of numbers and lists without end
            told = text if len(text) <= 200 else f"{text[:200]}…"
            raise InputError(
                f"{told!r} is no override; write GROUP=NAME or KEY=VALUE and quote special characters"
            ) from None
    return parsed


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn Hydra's and OmegaConf's errors, and those of a YAML file of the user's, into an InputError of one line."""
    try:
        yield
    except YAMLError as error:  # which names the file
        raise InputError(" ".join(str(error).split())) from error
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        key = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("full_key:")), "")
        told = " ".join(lines[:2] if lines[0].endswith(":") or not key else lines[:1])
        raise InputError(f"{key}: {told}" if key else told) from error
