"""GPUs handed out one a run; there need be none for it."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import pytest

from sla_ablate.config import machine
from sla_ablate.config.machine import parallel_runs
from sla_ablate.files import is_held
from sla_ablate.launch import devices
from sla_ablate.launch.devices import Device, borrow, visible_devices

LISTING = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-0)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-1)
  MIG 3g.40gb     Device  0: (UUID: MIG-10)
  MIG 3g.40gb     Device  1: (UUID: MIG-11)
GPU 2: NVIDIA H100 80GB HBM3 (UUID: GPU-2a)
GPU 3: NVIDIA H100 80GB HBM3 (UUID: GPU-2b)
"""


@pytest.fixture(autouse=True)
def _locks(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "LOCKS", tmp_path / "locks")
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    machine._installed.cache_clear()
    yield
    machine._installed.cache_clear()


@pytest.mark.parametrize(
    ("variable", "names"),
    [
        ("0,2", ["0", "2"]),
        ("MIG-10, GPU-2", ["MIG-10", "GPU-2"]),
        ("", []),
        ("1,-1,0", ["1"]),  # as CUDA has it
    ],
)
def test_the_users_choice_of_devices_is_respected(monkeypatch, variable, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_devices("auto") == visible_devices("gpu") == names
    assert visible_devices("cpu") == []


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Installs GPUs as nvidia-smi lists them, and a build of torch."""

    def install(listing, torch="2.13.0"):
        monkeypatch.setattr(machine, "version", lambda name: torch)
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\ncat <<'END'\n{listing}END\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return install


@pytest.mark.parametrize(
    ("variable", "names"),
    [
        ("0,2,3", ["GPU-0", "GPU-2a", "GPU-2b"]),
        ("GPU-2a,3", ["GPU-2a", "GPU-2b"]),
        ("1,MIG-11", ["MIG-10", "MIG-11"]),  # of a GPU in instances CUDA takes the first
        ("GPU-1,MIG-10", ["MIG-10"]),
        ("2,GPU-2a,2", ["GPU-2a"]),
        ("GPU-2", ["GPU-2"]),  # which of them?
        ("7,GPU-9", ["7", "GPU-9"]),
    ],
)
def test_a_device_is_the_same_however_it_is_spelled(monkeypatch, install, variable, names):
    install(LISTING)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_devices("auto") == names


def test_an_index_among_unlike_models_is_cudas_own(monkeypatch, install):
    """CUDA counts from the fastest on, unless it is told to count as nvidia-smi does."""
    install("GPU 0: NVIDIA T4 (UUID: GPU-slow)\nGPU 1: NVIDIA H100 (UUID: GPU-fast)\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert visible_devices("auto") == ["0", "1"]
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert visible_devices("auto") == ["GPU-slow", "GPU-fast"]


@pytest.mark.parametrize(
    ("torch", "names"), [("2.13.0", ["GPU-0", "MIG-10", "MIG-11", "GPU-2a", "GPU-2b"]), ("2.13.0+cpu", [])]
)
def test_devices_are_found_where_torch_can_use_them(monkeypatch, install, torch, names):
    install(LISTING, torch)
    assert visible_devices("auto") == names
    machine._installed.cache_clear()
    monkeypatch.setenv("PATH", "")
    assert visible_devices("auto") == []


def test_there_is_a_run_for_every_gpu_or_as_many_as_the_cores_hold(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(99))))
    assert parallel_runs(4, 1, "auto") == 99
    assert parallel_runs(4, 8, "auto") == 12
    on_cores = parallel_runs(1, 1, "cpu")
    assert 1 <= on_cores < 99
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert parallel_runs(1, 1, "auto") == on_cores
    assert parallel_runs(10**6, 1, "auto") == parallel_runs(1, 10**6, "auto") == 1


def test_a_device_has_one_run_at_a_time(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b")
    asked = []
    with borrow("auto", 1, lambda: False) as first, borrow("gpu", 1, lambda: False) as second:
        assert [d.environment for d in (first, second)] == [
            {"CUDA_VISIBLE_DEVICES": "a"},
            {"CUDA_VISIBLE_DEVICES": "b"},
        ]
        with borrow("auto", 1, lambda: len(asked) > 2 or asked.append(1)) as third:
            assert third is None
            assert len(asked) == 3  # it waited
        with borrow("cpu", 1, lambda: False) as none:
            assert none == Device()
    with borrow("auto", 1, lambda: False) as again:
        assert again.environment == {"CUDA_VISIBLE_DEVICES": "a"}


def test_a_run_on_several_devices_has_all_or_none(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b,c")
    with borrow("auto", 2, lambda: False) as first:
        assert first.environment == {"CUDA_VISIBLE_DEVICES": "a,b"}
        asked = []
        with borrow("auto", 2, lambda: len(asked) > 1 or asked.append(1)) as second:
            assert second is None
        with borrow("auto", 1, lambda: False) as third:  # which the second let go
            assert third.environment == {"CUDA_VISIBLE_DEVICES": "c"}
    with borrow("auto", 9, lambda: False) as more_than_there_are:
        assert more_than_there_are.environment == {"CUDA_VISIBLE_DEVICES": "a,b,c"}


def test_sweeps_that_spell_devices_differently_share_them(monkeypatch, install):
    install(LISTING)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    with borrow("auto", 1, lambda: False) as first:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-2a,GPU-2b")
        with borrow("auto", 1, lambda: False) as second:
            assert [d.environment["CUDA_VISIBLE_DEVICES"] for d in (first, second)] == ["GPU-2a", "GPU-2b"]


def test_locks_are_this_users_alone_and_no_link_is_followed(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,../b")
    with borrow("auto", 2, lambda: False) as both:
        assert both.environment == {"CUDA_VISIBLE_DEVICES": "a,../b"}
    assert devices.LOCKS.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in tmp_path.iterdir()] == ["locks"]
    *_, lock = devices.LOCKS.glob("*a/.lock")
    lock.unlink()
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"), borrow("auto", 1, lambda: False):
        pass
    assert not (tmp_path / "elsewhere").exists()


GREEDY = (
    "import sys; from pathlib import Path; from sla_ablate.launch import devices\n"
    "devices.LOCKS = Path(sys.argv[1])\n"
    "devices.time.sleep = lambda seconds: None\n"  # in step, as far as that goes
    "for _ in range(30):\n"
    "    with devices.borrow('auto', 3, lambda: False) as held: assert len(held.locks) == 3"
)


def test_runs_that_each_want_several_devices_all_get_them(monkeypatch):
    """Each counts them from another end, so that without an order each gets some."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", GREEDY, str(devices.LOCKS)], env={**os.environ, "CUDA_VISIBLE_DEVICES": names}
        )
        for names in ("a,b,c,d", "d,c,b,a", "b,d,a,c")
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0]


def test_a_single_device_is_left_to_be_shared(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a")
    with borrow("auto", 1, lambda: False) as first, borrow("auto", 1, lambda: False) as second:
        assert first == second == Device()


def test_a_device_of_a_killed_process_is_free(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b")
    code = (
        "import sys, time; from pathlib import Path; from sla_ablate.launch import devices\n"
        f"devices.LOCKS = Path({str(devices.LOCKS)!r})\n"
        "with devices.borrow('auto', 1, lambda: False): print('up', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"up\n"
        (lock,) = devices.LOCKS.glob("*-a")
        assert is_held(lock)
        holder.kill()
    assert not is_held(lock)


# Records which device it had, and when.
TIMED = (
    "import os, time; began = time.time(); {}; time.sleep(0.2)\n"
    "(folder / 'device').write_text(f'{{os.environ[\"CUDA_VISIBLE_DEVICES\"]}} {{began}} {{time.time()}}'); done()"
)
UNTIL_FOUR_RUN = (
    "(folder / 'up').touch()\nwhile len(list(folder.parent.glob('*/up'))) < 4 and time.time() < began + 20: "
    "time.sleep(0.05)\npass"
)


def uses(tmp_path):
    lines = (path.read_text().split() for path in tmp_path.glob("runs/s/*/device"))
    return sorted((name, float(began), float(ended)) for name, began, ended in lines)


@pytest.mark.slow
def test_parallel_runs_have_a_device_each(sla, tmp_path):
    environment = {"CUDA_VISIBLE_DEVICES": "a,b,MIG-1,MIG-2", "HOME": str(tmp_path)}
    code, output = sla("train", "hydra/launcher=local", code=TIMED.format(UNTIL_FOUR_RUN), **environment)
    assert code == 0, output
    used = uses(tmp_path)
    assert [name for name, *_ in used] == ["MIG-1", "MIG-2", "a", "b"]
    assert max(began for _, began, _ in used) < min(ended for *_, ended in used)


@pytest.mark.slow
def test_runs_wait_for_a_device(sla, tmp_path):
    environment = {"CUDA_VISIBLE_DEVICES": "a,b", "HOME": str(tmp_path)}
    launcher = ["hydra/launcher=local", "hydra.launcher.n_jobs=4"]
    code, output = sla("train", *launcher, code=TIMED.format("pass"), **environment)
    assert code == 0, output
    used = uses(tmp_path)
    assert len(used) == 4
    assert {name for name, *_ in used} == {"a", "b"}
    for (name, _, ended), (next_name, began, _) in pairwise(used):
        assert name != next_name or ended < began
