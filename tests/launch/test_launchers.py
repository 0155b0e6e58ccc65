"""Sweeps through launchers that need more than Hydra, of runs that take no time (tests/stub)."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from sla_ablate.config import extras
from sla_ablate.config.root import data_root
from sla_ablate.errors import InputError
from sla_ablate.launch.plan import plan

ODD_SEEDS_FAIL = "1 / 0 if record['seed'] else done()"
RAY = [
    "hydra/launcher=ray", "+hydra.launcher.init.num_cpus=2", "+hydra.launcher.init.object_store_memory=80000000",
    "+hydra.launcher.init.include_dashboard=false",
]  # fmt: skip
RAY_ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_AUTO_CONNECT": "0", "RAY_USAGE_STATS_ENABLED": "0"}
SAVING = (
    "import signal, sys, time\n"
    "signal.signal(15, lambda *_: (print('saved', file=sys.stderr), time.sleep(0.3), sys.exit(75)))\n"
    "(folder / 'up').touch()\n"
    "while True: time.sleep(0.05)"
)


@pytest.mark.parametrize("group_and_choice", extras.EXTRAS)
def test_what_is_not_installed_is_told_in_one_line(monkeypatch, group_and_choice):
    group, choice = group_and_choice
    distribution, extra = extras.EXTRAS[group_and_choice]

    def version(name):
        assert name == distribution
        raise PackageNotFoundError

    monkeypatch.setattr(extras, "version", version)
    for overrides in [f"{group}={choice}"], *([["experiment=tune"]] if choice == "optuna" else []):
        with pytest.raises(InputError) as error:
            plan(overrides, multirun=True)
        assert str(error.value) == f"{group}={choice} needs {distribution}; run: pip install 'sla-ablate[{extra}]'"


def test_every_launcher_of_ours_names_what_it_needs():
    files = (data_root() / "conf" / "hydra").glob("*/*.yaml")
    assert {(f"hydra/{path.parent.name}", path.stem) for path in files} <= set(extras.EXTRAS)


@pytest.mark.slow
def test_submitit_leaves_the_ledger_in_force(sla):
    code, output = sla("train", "hydra/launcher=slurm_local", code=ODD_SEEDS_FAIL)
    assert (code, output.splitlines()[-2]) == (1, "2 done, 2 failed"), output
    assert output.count("\nbaseline-s1-") == output.count("\nsla-d1-h3-s1-") == 1
    code, output = sla("train", "hydra/launcher=slurm_local")
    assert (code, output.splitlines()[-2]) == (0, "4 done"), output
    assert sorted(sla.states()) == [("done", 1), ("done", 1), ("done", 2), ("done", 2)]


@pytest.mark.slow
def test_one_signal_lets_the_runs_of_ray_save_and_the_ledger_stays_in_force(sla, tmp_path):
    sweep = sla.start("train", *RAY, code=SAVING, **RAY_ENVIRONMENT)
    output = sla.interrupt(sweep, when_up=2)
    assert (sweep.returncode, output.splitlines()[-2]) == (130, "2 waiting, 2 interrupted"), output
    assert [path.read_text() for path in tmp_path.glob("runs/s/*/run.log")] == ["saved\n"] * 2
    code, output = sla("train", *RAY, code=ODD_SEEDS_FAIL, **RAY_ENVIRONMENT)
    assert (code, output.splitlines()[-2]) == (1, "2 done, 2 failed"), output
    assert output.count("\nbaseline-s1-") == output.count("\nsla-d1-h3-s1-") == 1
    assert sorted(attempt for _, attempt in sla.states()) == [1, 1, 2, 2]


def test_slurm_has_to_be_there(sla, tmp_path):
    code, output = sla("train", "hydra/launcher=slurm", PATH="")
    assert (code, output.count("\n")) == (2, 1)
    assert "there is no srun; hydra/launcher=slurm_local does without" in output
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def slurm(tmp_path):
    """The environment of a machine with Slurm on it, as far as tests/slurm plays it; its folder."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name in ("sbatch", "srun", "scontrol", "sacct"):
        (folder / name).symlink_to(Path(__file__).parents[1] / "slurm" / "slurm")
    return {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_FAKE": str(folder)}, folder


@pytest.mark.slow
def test_slurm_is_given_an_array_of_jobs_and_requeues_those_it_preempts(sla, slurm, tmp_path):
    environment, folder = slurm
    # Slurm signals every process of a job: the run, the two that forked it one after the other and submitit's.
    preempted = (
        "import os, signal, sys, time\n"
        "def save(*_):\n"
        "    time.sleep(1.5); (folder / 'saved').touch()\n"
        "    print('saved', file=open(os.environ['SLURM_FAKE'] + '/asked', 'a')); sys.exit(75)\n"
        "if record['seed'] and not (folder / 'saved').exists():\n"
        "    for number in signal.SIGUSR2, signal.SIGTERM: signal.signal(number, save)\n"
        "    def parent(process): return int(Path(f'/proc/{process}/stat').read_text().split()[3])\n"
        "    keeper = os.getppid()\n"
        "    zygote = parent(keeper)\n"
        "    for process in parent(zygote), zygote, keeper, os.getpid(): os.kill(process, signal.SIGUSR2)\n"
        "    time.sleep(20)\n"
        "done()"
    )
    options = ["hydra.launcher.partition=gpu", "hydra.launcher.array_parallelism=3", "trainer.threads=2"]
    code, output = sla(
        "train", "hydra/launcher=slurm", *options, code=f"from pathlib import Path\n{preempted}", **environment
    )
    assert (code, output.splitlines()[-2]) == (0, "4 done"), output + (folder / "asked").read_text()
    flags = [line for line in (folder / "script").read_text().splitlines() if line.startswith("#SBATCH")]
    for flag in ("array=0-3%3", "partition=gpu", "gpus-per-node=1", "cpus-per-task=2", "time=240", "signal=USR2@120"):
        assert f"#SBATCH --{flag}" in flags
    assert sorted(sla.states()) == [("done", 1), ("done", 1), ("done", 2), ("done", 2)]
    assert len(list(tmp_path.glob("runs/s/*/saved"))) == 2
    asked = (folder / "asked").read_text().splitlines()
    assert sum(line.startswith("sbatch") for line in asked) == 1
    requeued = [i for i, line in enumerate(asked) if line.startswith("scontrol requeue 7_")]
    assert len(requeued) == 2
    assert all(asked[:at].count("saved") > n for n, at in enumerate(requeued))
