"""What a choice needs beside this package: other distributions, a key for W&B, and the user's trust."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from sla_ablate.config.schema import LoggerConfig, RunConfig
from sla_ablate.errors import InputError, unknown

EXTRAS = {
    ("hydra/launcher", "local"): ("hydra-joblib-launcher", "joblib"),
    ("hydra/launcher", "joblib"): ("hydra-joblib-launcher", "joblib"),
    ("hydra/launcher", "slurm"): ("hydra-submitit-launcher", "slurm"),
    ("hydra/launcher", "slurm_local"): ("hydra-submitit-launcher", "slurm"),
    ("hydra/launcher", "ray"): ("ray", "ray"),
    ("hydra/sweeper", "optuna"): ("optuna", "optuna"),
}
"""What a choice needs that may not be installed: its distribution, and the extra of this package that brings it."""

_NEEDS = {
    "csv": (),
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
}


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


def check_logger(config: LoggerConfig) -> None:
    """Make sure that loggers can be opened, as far as that can be known before a run starts.

    Raises:
        InputError: there is no such logger, something is not installed, or W&B has no key.
    """
    for name in config.names:
        if name not in _NEEDS:
            raise unknown("logger.name", name, _NEEDS)
        if missing := [module for module in _NEEDS[name] if not _installed(module)]:
            raise InputError(f"logger={name} needs {', '.join(missing)}; run: pip install 'sla-ablate[{name}]'")
    if "wandb" in config.names and config.mode == "online" and not _has_wandb_key():
        raise InputError(
            "logger=wandb finds no API key; run `wandb login`, set WANDB_API_KEY, or choose logger.mode=offline"
        )


def check_trusted(path: Path, config: RunConfig) -> None:
    """Make sure that a configuration that may be somebody else's asks for nothing beside the computation.

    Args:
        path: its file, for messages.
        config: what that holds.

    Raises:
        InputError: it does.
    """
    if asked := _beyond_computation(config):
        raise InputError(f"{path} asks for {asked}; if you trust it, add --trust")


def _beyond_computation(config: RunConfig) -> str:
    """What a configuration asks for beside the computation; empty for nothing."""
    asked = []
    if ":" in config.pattern.name:
        asked.append(f"the function pattern.name={config.pattern.name}")
    if config.data.reader is not None:
        asked.append(f"the function data.reader={config.data.reader}")
    for name in config.logger.names:
        if name not in ("csv", "tensorboard"):  # which write to the run's folder
            where = f" at {config.logger.tracking_uri}" if name == "mlflow" and config.logger.tracking_uri else ""
            asked.append(f"logger={name}{where}")
    return " and ".join(asked)


def _installed(module: str) -> bool:
    spec = find_spec(module)
    return spec is not None and spec.origin is not None  # without: a folder of that name, such as W&B leaves behind


@cache
def _has_wandb_key() -> bool:
    import wandb

    try:
        return bool(wandb.login(prompt=False, verify=False))
    except wandb.errors.Error as error:  # a key, but none that could be one
        raise InputError(f"logger=wandb: {' '.join(str(error).split())}") from None
