"""Checked runs are carried out: the ledger, the disk, Hydra's launchers, and the summary."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import InstantiationException
from hydra.types import HydraContext
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

from sla_ablate.config.hydra_internals import Callbacks
from sla_ablate.errors import InputError
from sla_ablate.launch import sweep_signals
from sla_ablate.launch.disk import check_disk, parallel
from sla_ablate.launch.plan import Run
from sla_ablate.launch.supervise import carry_out
from sla_ablate.launch.view import SweepView
from sla_ablate.processes.live import shown
from sla_ablate.runs import ledger
from sla_ablate.runs.record import FINAL, read_summary
from sla_ablate.text.telling import short, tell, tell_next, waiting


def carry_out_all(
    runs: Sequence[Run], hydra: DictConfig, command: str | None = None, before: int = 0, after: int = 0
) -> int:
    """Carry out the runs that are neither done nor diverged, through the launcher that `hydra` names.

    Args:
        runs: checked runs, in order.
        hydra: the configuration of the multirun.
        command: the command line, without secrets, for their records.
        before: runs that were carried out before these, by another call.
        after: runs that will be carried out after these.

    Returns:
        The exit code: 0 if every run is done or in another process's hands, 1 if not, 130 after a signal to stop.

    Raises:
        InputError: they do not fit on the disk, and nothing was started; or folders cannot be read or hold other runs,
            and the others were carried out.
    """
    states = [ledger.state_of(run.folder) for run in runs]
    known = states.count("diverged")
    todo = [run for run, state in zip(runs, states, strict=True) if state not in (*FINAL, "unreadable")]
    size = check_disk(todo, parallel(hydra.hydra.launcher, len(todo)))
    tell(f"{len(runs)} run(s), {states.count('done')} already done{size}")
    unreadable = {}
    with waiting(f"entering {len(runs)} runs in the ledger", tell):
        for run in runs:
            try:
                ledger.enter(run.config, run.data_digest, command)
            except InputError as error:
                unreadable[run.folder] = str(error)
    todo = [run for run in todo if run.folder not in unreadable]
    sweep_signals.listen()
    failure = None
    try:
        if todo:
            folders = [run.folder for run in runs]
            with shown(lambda: SweepView(hydra.sweep, folders, before, after)):
                _launch([run.folder for run in todo], hydra)
    except KeyboardInterrupt:
        pass
    except Exception as error:
        if not sweep_signals.received:  # else a process of the launcher's that had not begun to listen yet
            failure = error
    states = ["unreadable" if run.folder in unreadable else _end_of(run.folder) for run in runs]
    for run in todo if _prints_elsewhere(hydra) else ():  # here each run has told its end itself
        if (record := read_summary(run.folder)) and record["state"] in ("failed", "diverged"):
            tell(f"{run.folder.name}  {record['state']}: {record['error']}")
    if known:
        tell(f"{known} run(s) had diverged before and would again: not repeated unless their folders are moved away")
    tell(ledger.count(states))
    if sweep_signals.received:
        _requeue(sweep_signals.received[0])
        return 130
    if isinstance(failure, ConnectionError | InstantiationException | RuntimeError):  # no cluster, no such partition
        raise InputError(f"the launcher failed: {' '.join(str(failure).split())}")
    if failure is not None:
        raise failure
    if unreadable:
        raise InputError("\n".join(unreadable.values()))
    return 0 if set(states) <= {"done", "running"} else 1


def tell_after(runs: Sequence[Run]) -> None:
    """Tell what usually follows runs of a sweep: its report, or another try of those that have not ended."""
    sweep = runs[0].folder.parent
    ended = all(ledger.state_of(run.folder) in (*FINAL, "running") for run in runs)
    tell_next(sweep, f"{'report' if ended else 'retry'} {short(sweep)}")


def _prints_elsewhere(hydra: DictConfig) -> bool:
    """True if runs print into files of their own, on machines of a cluster perhaps."""
    return any(name in hydra.hydra.launcher._target_ for name in ("submitit", ".ray."))


def _end_of(folder: Path) -> str:
    return ledger.state_of(folder) if folder.is_dir() else "removed"


def _launch(folders: Sequence[Path], hydra: DictConfig) -> None:
    hydra = copy.deepcopy(hydra)
    hydra.hydra.job.chdir = False  # what a run imports of the user's is found from the working folder
    if (hydra.hydra.launcher.get("n_jobs") or 0) > len(folders):
        # A process that never gets a run never learns to leave a Ctrl-C to us.
        hydra.hydra.launcher.n_jobs = len(folders)
    callbacks = _Callbacks(hydra)
    callbacks.on_multirun_start(config=hydra, config_name="config")
    context = HydraContext(config_loader=_Composed(), callbacks=callbacks)  # type: ignore[arg-type]
    if hydra.hydra.launcher._target_.startswith("sla_ablate."):  # for Hydra, plugins are in its own namespace only
        launcher = instantiate(hydra.hydra.launcher)
        launcher.setup(hydra_context=context, task_function=_run_cell, config=hydra)
    else:
        launcher = Plugins.instance().instantiate_launcher(context, _run_cell, hydra)
    size = hydra.hydra.sweeper.get("max_batch_size") or len(folders)
    with ExitStack() as stack:
        if "submitit" in hydra.hydra.launcher._target_:  # whose jobs print into files of their own
            stack.enter_context(waiting(f"waiting for {len(folders)} job(s); sla-ablate status tells of them", tell))
        jobs = [[str(folder.absolute())] for folder in folders]
        batches = (jobs[first : first + size] for first in range(0, len(jobs), size))
        for job in chain.from_iterable(launcher.launch(b, initial_job_idx=n * size) for n, b in enumerate(batches)):
            _ = job.return_value  # raises what a job raised, which no failed run does
    callbacks.on_multirun_end(config=hydra, config_name="config")


class _Callbacks(Callbacks):
    """Hydra's callbacks; what a launcher returns of each job when all have ended is a tenth of a megabyte less."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **more: Any) -> None:
        super().on_job_end(config=config, job_return=job_return, **more)
        job_return.cfg = job_return.hydra_cfg = None


class _Composed:
    """What a launcher takes for Hydra's config loader.

    Runs were composed and checked, and their folders hold the result, so a job is told its folder and nothing is
    composed again, which would take a tenth of a second a run.
    """

    def load_sweep_config(self, config: DictConfig, overrides: list[str]) -> DictConfig:
        config = copy.deepcopy(config)
        with open_dict(config):
            config.hydra.overrides.task = overrides
        return config


def _run_cell(config: DictConfig) -> None:
    """Carry out the run of the folder that a job of the launcher is given in place of overrides."""
    (folder,) = HydraConfig.get().overrides.task
    carry_out(Path(folder))


def _requeue(received: signal.Signals) -> None:
    """Have Slurm queue this job again, if it was Slurm that stopped it.

    A job that submitit started is not this process but its child, whose signals submitit itself answers so.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or received == signal.SIGINT:
        return
    try:
        done = subprocess.run(["scontrol", "requeue", job])
    except FileNotFoundError:
        tell("scontrol was not found, so the job is not queued again")
    else:
        tell(f"job {job} {'is queued again' if done.returncode == 0 else 'could not be queued again'}")
