"""Many runs, a few at a time: how each ended is told, and none takes another along."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from sla_ablate.processes.pool import call_each

RUNS = {
    "good": ("x = 1", None),
    "refused": ("import sys; sys.exit('no such thing')", "exit code 1: no such thing"),
    "dies": (
        "import os; os.kill(os.getpid(), 9)",
        "ended by signal 9: Killed, as the system does when memory runs out",
    ),
    "crashes": ("import ctypes; ctypes.string_at(0)", "ended by signal 11: Segmentation fault"),
    "exits": ("import sys; sys.exit(3)", "exit code 3: nothing logged"),
    "wrong": ("{}['x']", "exit code 1: KeyError: 'x'"),
    "better": ("import sys; print('careful', file=sys.stderr)", None),
}


def test_no_process_takes_another_along(executor):
    arguments = [code for code, _ in RUNS.values()]
    ended = {argument: (error, lines) for argument, error, lines in call_each(executor, [], arguments, 2)}
    assert {name: ended[code][0] for name, (code, _) in RUNS.items()} == {n: error for n, (_, error) in RUNS.items()}
    said = {name: ended[code][1] for name, (code, _) in RUNS.items()}
    assert said["better"] == ["careful"]
    assert [name for name, lines in said.items() if any("Traceback" in line for line in lines)] == ["wrong"]
    assert said["crashes"][0] == "Fatal Python error: Segmentation fault"


@pytest.mark.parametrize("jobs", [1, 3])
def test_so_many_run_at_a_time(executor, tmp_path, monkeypatch, jobs):
    """Each counts those that are there while it is, and waits for as many as there can be."""
    code = """
import fcntl, os, pathlib, time
here = pathlib.Path(os.environ["HERE"])
def count(change):
    with (here / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (here / "counts").open("a+") as file:
            file.seek(0)
            counts = [int(line) for line in file]
            file.write(f"{(counts or [0])[-1] + change}\\n")
            return counts
count(1)
while max(count(0)) < JOBS: time.sleep(0.05)
count(-1)
""".replace("JOBS", str(jobs))
    monkeypatch.setenv("HERE", str(tmp_path))
    arguments = [f"{code}# {i}" for i in range(2 * jobs)]
    ended = {argument: error for argument, error, _ in call_each(executor, [], arguments, jobs)}
    assert ended == dict.fromkeys(arguments)
    assert max(map(int, (tmp_path / "counts").read_text().split())) == jobs


STAYS = r"import os, time; os.write(1, b'%d\n' % os.getpid()); time.sleep(60)"
SCRIPT = "import sys; from sla_ablate.processes.pool import call_each; list(call_each('executor', [], sys.argv[1:], 2))"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_end_with_the_one_that_started_them(executor, number):
    command = [sys.executable, "-c", SCRIPT, STAYS, f"{STAYS} "]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        assert all(int(parent.stdout.readline()) for _ in range(2))
        parent.send_signal(number)
        _, errors = parent.communicate(timeout=20)  # nobody can write there any more
    assert errors.count("Traceback") == (number == signal.SIGINT)  # its own KeyboardInterrupt


def test_processes_end_with_the_iterator(executor, until, is_gone, tmp_path):
    stays = f"import os, pathlib, time; pathlib.Path({str(tmp_path)!r}, f'{{os.getpid()}}.pid').touch(); time.sleep(60)"
    calls = call_each(executor, [], [stays, "import sys; sys.exit(1)"], 2)
    assert next(calls)[1] == "exit code 1: nothing logged"
    until(lambda: list(tmp_path.glob("*.pid")))
    calls.close()
    (pid,) = tmp_path.glob("*.pid")
    until(lambda: is_gone(pid.stem))
