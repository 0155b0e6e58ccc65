"""Loggers beside metrics.jsonl: CSV, TensorBoard, Weights & Biases, MLflow, with one run of theirs for each of ours.

They are told from a thread. A server that cannot be reached, that goes away or that hangs costs the run a line which
says so; it is told what it missed when it is back, by the next attempt, or by `sla-ablate send`.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sla_ablate.config.schema import RunConfig
from sla_ablate.files import check_inside, replace_file
from sla_ablate.runs.metrics import METRICS, no_metrics, read_metrics

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger
    from mlflow.entities import Run

UNSENT = "logger.unsent"
"""File in a run folder that is there until the logger has been told everything, and that the run has ended."""

_TO_OPEN = 10.0
"""Seconds that training waits for a logger, so that as a rule it is open before anything is forked."""
_TO_CLOSE = {"FINISHED": 30.0, "FAILED": 30.0, "KILLED": 8.0}
"""Seconds without progress after which a run no longer waits for its logger; who stops a run has little patience."""
_BETWEEN_TRIES = 30.0


@dataclass(frozen=True)
class _Open:
    """An open logger of Lightning's."""

    logger: Logger
    close: Callable[[str], object]
    """Ends its run as `FINISHED`, `FAILED` or `KILLED`."""
    lacks: Callable[[int, int, str], bool] = lambda line, step, name: True
    """Tells of a value whether it was not told by an earlier attempt: by number of its line, step and name."""


class RunLogger:
    """Tells a logger the lines of a run's metrics.jsonl.

    Args:
        open_: opens the logger; repeated while it fails.
        name: of the logger, for people.
        say: shows a line to people.
    """

    def __init__(self, open_: Callable[[], _Open], name: str, say: Callable[[str], None]) -> None:
        self._open = open_
        self._name = name
        self._say = say
        self._lines: list[tuple[int, dict[str, float]]] = []
        self._told = 0
        self._status: str | None = None
        """How the run ended, once it has."""
        self._changed = threading.Condition()
        """Of the lines or the status."""
        self._tried = threading.Event()
        """Set when the logger is open, or has failed to."""
        self._complete = False
        self._thread = threading.Thread(target=self._tell, daemon=True)
        self._thread.start()
        if not self._tried.wait(_TO_OPEN):
            say(f"{name} does not answer, which stops nothing (metrics.jsonl has all)")

    def log(self, step: int, **values: float | None) -> None:
        """Have it told the values of one line; those of earlier attempts come first."""
        with self._changed:
            self._lines.append((step, {name: value for name, value in values.items() if value is not None}))
            self._changed.notify()

    def end(self, status: str) -> None:
        """Have its run ended as `FINISHED`, `FAILED` or `KILLED`, once it was told everything."""
        with self._changed:
            self._status = status
            self._changed.notify()

    def wait(self, status: str) -> bool:
        """Wait until its run has ended so; False if it could not be told everything in time."""
        told = -1
        while self._thread.is_alive() and told < self._told:
            told = self._told
            self._thread.join(_TO_CLOSE[status])
        return self._complete

    def _tell(self) -> None:
        failed = False
        while not self._complete:
            try:
                run = self._open()
                self._tried.set()
                self._told = 0
                for number, (step, values) in self._follow():
                    if new := {name: value for name, value in values.items() if run.lacks(number, step, name)}:
                        run.logger.log_metrics(new, step)
                    self._told = number + 1
                    if failed:
                        failed = False
                        self._say(f"{self._name} is back, and is told what it missed")
                run.close(str(self._status))
                self._complete = True
            except Exception as error:  # whatever a library raises, the run is not about it
                if not failed:
                    failed = True
                    reason = " ".join(str(error).split())[:300] or type(error).__name__
                    self._say(f"{self._name} cannot be told, which stops nothing (metrics.jsonl has all): {reason}")
                self._tried.set()
                with self._changed:
                    if self._status is not None:
                        return
                    self._changed.wait_for(lambda: self._status is not None, _BETWEEN_TRIES)

    def _follow(self) -> Iterator[tuple[int, tuple[int, dict[str, float]]]]:
        """The lines with their numbers, those to come too, until the run has ended."""
        number = 0
        while True:
            with self._changed:
                while number == len(self._lines) and self._status is None:
                    self._changed.wait()
                if number == len(self._lines):
                    return
                line = self._lines[number]
            yield number, line
            number += 1


class RunLoggers:
    """Tells all loggers of a run; the arguments are those of `opened`."""

    def __init__(self, config: RunConfig, folder: Path, say: Callable[[str], None]) -> None:
        self._runs = {
            name: RunLogger(lambda open_=_OPEN[name]: open_(config, folder), name, say)  # type: ignore[misc]
            for name in config.logger.names
        }

    def log(self, step: int, **values: float | None) -> None:
        """See `RunLogger`."""
        for run in self._runs.values():
            run.log(step, **values)

    def close(self, status: str) -> list[str]:
        """End all; the names of those that could not be told everything in time."""
        for run in self._runs.values():
            run.end(status)
        return [name for name, run in self._runs.items() if not run.wait(status)]


@contextmanager
def opened(config: RunConfig, folder: Path, say: Callable[[str], None]) -> Iterator[RunLoggers | None]:
    """The loggers of the run of a folder, closed as the block ends; None if it has none.

    Lightning's trainer does not get it: it would close it when training ends, before the final validation.
    """
    if not config.logger.names:
        yield None
        return
    replace_file(folder / UNSENT, b"")
    run = RunLoggers(config, folder, say)
    status = "FAILED"
    try:
        yield run
        status = "FINISHED"
    except SystemExit:
        status = "KILLED"
        raise
    finally:
        if lacking := run.close(status):
            say(f"{' and '.join(lacking)} was not told everything; later: sla-ablate send --trust {folder.parent}")
        else:
            (folder / UNSENT).unlink(missing_ok=True)


def send(folder: Path, config: RunConfig, status: str, say: Callable[[str], None]) -> bool:
    """Tell the loggers of a run that has ended what it has missed of metrics.jsonl; False if it cannot be.

    Args:
        folder: the run's.
        config: its configuration.
        status: how it ended: `FINISHED`, `FAILED` or `KILLED`.
        say: shows a line to people.
    """
    run = RunLoggers(config, folder, say)
    lines, others = read_metrics(folder, {}) if (folder / METRICS).exists() else ([], [])
    for line in lines:
        run.log(**line)
    if others:
        say(no_metrics(folder, others))
    if complete := not run.close(status):
        (folder / UNSENT).unlink(missing_ok=True)
    return complete


def hyperparameters(config: RunConfig) -> dict[str, str | int | float]:
    """The configuration but for the logger's own, as flat plain values; lists and null are written as JSON."""
    flat: dict[str, Any] = {}
    for name, value in asdict(config).items():
        if name != "logger":
            flat |= {f"{name}.{key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value}
    return {key: value if isinstance(value, str | int | float) else json.dumps(value) for key, value in flat.items()}


def _csv(config: RunConfig, folder: Path) -> _Open:
    """A logger in `RUN/csv/metrics.csv`, made anew by every attempt."""
    from lightning.pytorch.loggers import CSVLogger

    shutil.rmtree(folder / "csv", ignore_errors=True)
    logger = CSVLogger(folder, name="csv", version="", flush_logs_every_n_steps=1)
    logger.log_hyperparams(hyperparameters(config))
    return _Open(logger, lambda status: logger.save())


def _tensorboard(config: RunConfig, folder: Path) -> _Open:
    """A logger in `RUN/tensorboard`, made anew by every attempt, so that it holds each point once."""
    from lightning.pytorch.loggers import TensorBoardLogger
    from torch.utils.tensorboard.summary import hparams

    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    logger = TensorBoardLogger(folder, name="tensorboard", version="")
    for summary in hparams(hyperparameters(config), {"validation_loss": 0.0}):  # of the metrics only the names count
        logger.experiment.file_writer.add_summary(summary)
    return _Open(logger, lambda status: logger.experiment.close())


def _wandb(config: RunConfig, folder: Path) -> _Open:
    """A logger in `RUN/wandb`, and online if so chosen; every attempt has the id that `RUN/wandb.id` holds.

    An offline run of W&B's cannot be resumed, and when two of one id are synchronised the later replaces the earlier:
    so the last attempt's holds everything, and those before it are removed.
    """
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    identifier = folder / "wandb.id"
    if not identifier.exists():
        replace_file(identifier, secrets.token_hex(4).encode())
    earlier = list((folder / "wandb").glob("offline-run-*"))
    logger = WandbLogger(
        folder.name,
        folder,
        id=identifier.read_text(encoding="utf-8"),
        resume="allow" if config.logger.mode == "online" else None,
        project=config.logger.project,
        group=config.logger.group or config.sweep,
        entity=config.logger.entity,
        tags=config.logger.tags or None,
        notes=config.logger.notes,
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

    told = run.step if run.resumed else 0  # W&B counts lines
    return _Open(logger, close, lambda line, step, name: line >= told)


def _mlflow(config: RunConfig, folder: Path) -> _Open:
    """A logger where `logger.tracking_uri` or MLflow's variable says, else in `SWEEP/mlflow.db`.

    Every attempt goes on with the run whose id `RUN/mlflow.id` holds.
    """
    import mlflow
    from filelock import FileLock
    from lightning.pytorch.loggers import MLFlowLogger

    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds; MLflow's own would be many minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    uri = config.logger.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.parent}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    check_inside(folder.parent)  # a sweep of somebody else's may have links there
    with FileLock(folder.parent / ".mlflow.lock"):  # the first runs of a sweep would all make the database at once
        mlflow.set_experiment(config.logger.project)
    identifier = folder / "mlflow.id"
    earlier = _active_run(identifier.read_text(encoding="utf-8")) if identifier.exists() else None
    logger = MLFlowLogger(
        config.logger.project,
        run_name=folder.name,
        run_id=earlier.info.run_id if earlier else None,
        tracking_uri=uri,
        tags={"sweep": config.sweep},
    )
    told: set[tuple[int, str]] = set()
    if earlier is None:
        replace_file(identifier, str(logger.run_id).encode())
    else:
        logger.experiment.update_run(logger.run_id, status="RUNNING")
        for name in earlier.data.metrics:
            told |= {(metric.step, name) for metric in logger.experiment.get_metric_history(logger.run_id, name)}
    if earlier is None or not earlier.data.params:  # which cannot be changed
        logger.log_hyperparams(hyperparameters(config))
    return _Open(logger, logger.finalize, lambda line, step, name: (step, name) not in told)


def _active_run(run_id: str) -> Run | None:
    """The run of an id, if MLflow knows it, as one that was not deleted."""
    import mlflow
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

    try:
        run = mlflow.get_run(run_id)
    except mlflow.MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise
        return None
    return run if run.info.lifecycle_stage == "active" else None


_OPEN = {"csv": _csv, "tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
