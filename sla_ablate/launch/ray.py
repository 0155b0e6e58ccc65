"""Runs as tasks of a Ray cluster, which chooses their nodes, cores and GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from sla_ablate.launch.supervise import carry_out
from sla_ablate.text.telling import tell, waiting


class RayLauncher(Launcher):
    """Carries out each run as a task of Ray's, which needs to be told the run's folder only.

    (The plugin hydra-ray-launcher composes configurations again, and wants boto3 and an old cloudpickle.)

    Args:
        num_cpus: of one run.
        num_gpus: of one run; None: trainer.devices if the cluster has GPUs and trainer.accelerator is not cpu.
        init: the arguments of `ray.init`.
    """

    def __init__(self, num_cpus: int, num_gpus: float | None, init: Mapping[str, Any]) -> None:
        self.num_cpus = num_cpus
        self.num_gpus = num_gpus
        self.init = init

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember where runs are wanted."""
        self.devices = 0 if config.trainer.accelerator == "cpu" else config.trainer.devices

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Carry out the runs of these folders; what became of them is in their records.

        Raises:
            KeyboardInterrupt: after the runs that had begun have saved.
        """
        with waiting("starting or joining a Ray cluster", tell):
            ray.init(**self.init)
        try:
            task = ray.remote(num_cpus=self.num_cpus, num_gpus=self._gpus_of_a_run())(carry_out)
            runs = [task.remote(Path(folder)) for (folder,) in job_overrides]
            try:
                ray.wait(runs, num_returns=len(runs))
                ray.get(runs)  # raises what a task raised, which no failed run does
            except KeyboardInterrupt:
                for run in runs:
                    ray.cancel(run)
                ray.wait(runs, num_returns=len(runs))
                raise
        finally:
            ray.shutdown()
        return []

    def _gpus_of_a_run(self) -> float:
        if self.num_gpus is not None:
            return self.num_gpus
        return self.devices if "GPU" in ray.cluster_resources() else 0
