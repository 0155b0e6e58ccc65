"""Loggers beside metrics.jsonl: TensorBoard, Weights & Biases or MLflow, with one run of theirs for each of ours."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sla_ablate.config.schema import RunConfig
from sla_ablate.files import write_atomically

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


@dataclass(frozen=True)
class RunLogger:
    """An open logger of Lightning's."""

    logger: Logger
    resumed: bool
    """True if it still holds what earlier attempts at the run told it."""
    close: Callable[[str], object]
    """Ends its run as `FINISHED`, `FAILED` or `KILLED`."""

    def log(self, step: int, **values: float) -> None:
        """Log the values of one line of metrics.jsonl."""
        self.logger.log_metrics(values, step)


@contextmanager
def opened(config: RunConfig, folder: Path) -> Iterator[RunLogger | None]:
    """The logger of the run of a folder, closed as the block ends; None if it has none.

    Lightning's trainer does not get it: it would close it when training ends, before the final validation.
    """
    if config.logger.name == "none":
        yield None
        return
    run = _OPEN[config.logger.name](config, folder)
    try:
        yield run
    except SystemExit:
        run.close("KILLED")
        raise
    except BaseException:
        run.close("FAILED")
        raise
    run.close("FINISHED")


def hyperparameters(config: RunConfig) -> dict[str, str | int | float]:
    """The configuration but for the logger's own, as flat plain values; lists and null are written as JSON."""
    flat: dict[str, Any] = {}
    for name, value in asdict(config).items():
        if name != "logger":
            flat |= {f"{name}.{key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value}
    return {key: value if isinstance(value, str | int | float) else json.dumps(value) for key, value in flat.items()}


def _tensorboard(config: RunConfig, folder: Path) -> RunLogger:
    """A logger in `RUN/tensorboard`, made anew by every attempt, so that it holds each point once."""
    from lightning.pytorch.loggers import TensorBoardLogger
    from torch.utils.tensorboard.summary import hparams

    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    logger = TensorBoardLogger(folder, name="tensorboard", version="")
    for summary in hparams(hyperparameters(config), {"validation_loss": 0.0}):  # of the metrics only the names count
        logger.experiment.file_writer.add_summary(summary)
    return RunLogger(logger, False, lambda status: logger.experiment.close())


def _wandb(config: RunConfig, folder: Path) -> RunLogger:
    """A logger in `RUN/wandb`, and online if so chosen; every attempt has the id that `RUN/wandb.id` holds.

    An offline run of W&B's cannot be resumed, and when two of one id are synchronised the later replaces the earlier:
    so the last attempt's holds everything, and those before it are removed.
    """
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    identifier = folder / "wandb.id"
    if not identifier.exists():
        write_atomically(identifier, secrets.token_hex(4).encode())
    earlier = list((folder / "wandb").glob("offline-run-*"))
    logger = WandbLogger(
        folder.name,
        folder,
        id=identifier.read_text(encoding="utf-8"),
        resume="allow" if config.logger.mode == "online" else None,
        project=config.logger.project,
        group=config.sweep,
        mode=config.logger.mode,
        settings=wandb.Settings(console="off"),  # the terminal's lines are in run.log
    )
    run = logger.experiment
    if not run.resumed:
        logger.log_hyperparams(hyperparameters(config))
        for path in earlier:
            shutil.rmtree(path)

    def close(status: str) -> None:
        if status == "KILLED":
            run.mark_preempting()
        run.finish(exit_code=0 if status == "FINISHED" else 1)
        wandb.teardown()  # waits until all is on the disk, which `finish` does not after a failure

    return RunLogger(logger, run.resumed, close)


def _mlflow(config: RunConfig, folder: Path) -> RunLogger:
    """A logger where `logger.tracking_uri` or MLflow's variable says, else in `SWEEP/mlflow.db`.

    Every attempt goes on with the run whose id `RUN/mlflow.id` holds.
    """
    import mlflow
    from filelock import FileLock
    from lightning.pytorch.loggers import MLFlowLogger

    uri = config.logger.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.parent}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    with FileLock(folder.parent / ".mlflow.lock"):  # the first runs of a sweep would all make the database at once
        mlflow.set_experiment(config.logger.project)
    identifier = folder / "mlflow.id"
    resumed = identifier.exists() and _is_active(identifier.read_text(encoding="utf-8"))
    logger = MLFlowLogger(
        config.logger.project,
        run_name=folder.name,
        run_id=identifier.read_text(encoding="utf-8") if resumed else None,
        tracking_uri=uri,
        tags={"sweep": config.sweep},
    )
    if resumed:
        logger.experiment.update_run(logger.run_id, status="RUNNING")
    else:
        write_atomically(identifier, str(logger.run_id).encode())
        logger.log_hyperparams(hyperparameters(config))
    return RunLogger(logger, resumed, logger.finalize)


def _is_active(run_id: str) -> bool:
    """Tell whether MLflow knows a run, and as one that was not deleted."""
    import mlflow

    try:
        return bool(mlflow.get_run(run_id).info.lifecycle_stage == "active")
    except mlflow.MlflowException:
        return False


_OPEN = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
