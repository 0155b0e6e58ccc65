"""The variables that a command and its runs have: those that were meant for others are shut out.

Honoured are what a user means for us: CUDA_VISIBLE_DEVICES, PYTHONPATH, the servers and credentials of W&B and MLflow.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_FOREIGN = re.compile(
    r"""
    LOCAL_RANK | NODE_RANK | RANK | WORLD_SIZE | MASTER_ADDR | MASTER_PORT  # a launcher's, for others
    | (PL | LT)_\w+  # Lightning's: PL_TRAINER_FAST_DEV_RUN=1 would train for one step and call it done
    | NVIDIA_TF32_OVERRIDE | TORCH_ALLOW_TF32_CUBLAS_OVERRIDE | (ONEDNN | DNNL)_DEFAULT_FPMATH_MODE  # another precision
    | PYTHONWARNINGS  # of the libraries' warnings `error` would make failures
    | WANDB_(CONSOLE | DIR | DISABLED | MODE | NAME | PROJECT | RESUME | RUN_GROUP | RUN_ID | RUN_NAME | SERVICE
        | SWEEP_ID)  # what the configuration says
    | MLFLOW_(EXPERIMENT_ID | EXPERIMENT_NAME | RUN_ID)
    """,
    re.VERBOSE,
)
_OURS = {
    "MPLBACKEND": "Agg",  # a notebook's cannot be imported elsewhere
    "MATPLOTLIBRC": os.devnull,  # analysis/figures/style.py
}


def settled(found: Mapping[str, str]) -> dict[str, str]:
    """The variables that are right for us, of those that were found; of the loggers', empty ones mean nothing."""
    kept = {name: value for name, value in found.items() if not _FOREIGN.fullmatch(name)}
    return {n: v for n, v in kept.items() if v or not n.startswith(("WANDB_", "MLFLOW_"))} | _OURS
