"""Which of the variables that it finds a command has."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sla_ablate.processes.environment import settled

HONOURED = {
    "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": "here", "OMP_NUM_THREADS": "3", "SLURM_JOB_ID": "7", "PLATFORM": "x",
    "WANDB_API_KEY": "k", "WANDB_BASE_URL": "http://here", "WANDB_ENTITY": "us", "MLFLOW_TRACKING_URI": "http://there",
    "MLFLOW_TRACKING_TOKEN": "t", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}  # fmt: skip
FOREIGN = {
    "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "PL_GLOBAL_SEED": "3", "PL_TRAINER_FAST_DEV_RUN": "1",
    "LT_DEVICES": "4", "NVIDIA_TF32_OVERRIDE": "1", "PYTHONWARNINGS": "error", "WANDB_MODE": "",
    "WANDB_DISABLED": "true", "WANDB_RUN_ID": "x", "WANDB_ENTITY": "", "MLFLOW_TRACKING_URI": "", "MLFLOW_RUN_ID": "x",
}  # fmt: skip


def test_what_was_meant_for_others_is_shut_out():
    ours = settled({}).keys()
    assert {name: value for name, value in settled(HONOURED).items() if name not in ours} == HONOURED
    assert settled(FOREIGN) == settled({})


@pytest.mark.parametrize(
    "found", [{"MPLBACKEND": "module://matplotlib_inline.backend_inline"}, {"MPLBACKEND": "nonsense"}, {}]
)
def test_matplotlib_can_be_imported_whatever_was_chosen_for_others(found, tmp_path):
    """Where a user's own file cannot even be decoded."""
    (tmp_path / "matplotlibrc").write_bytes(b"font.family: \xe9\n")
    environment = settled({**os.environ, "MATPLOTLIBRC": str(tmp_path), **found})
    code = "import matplotlib.pyplot as p; print(p.get_backend().lower(), p.rcParams['font.family'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("agg ['sans-serif']\n", "")
