"""Several runs of one zygote at a time: none sees another, and what is told of each is its own."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from analysis import analyze
from sla_ablate.errors import InputError
from sla_ablate.launch import supervise
from sla_ablate.processes.pool import call_each
from sla_ablate.processes.zygote import LostError, Zygote

WAITING = "import os, time\nopen({up!r}, 'w').write(str(os.getppid()))\nwhile True: time.sleep(0.02)"
ANCESTORS = """
import os, pathlib
keeper = os.getppid()
zygote = int(pathlib.Path(f"/proc/{keeper}/stat").read_text().rpartition(")")[2].split()[1])
"""


@pytest.fixture
def zygote(executor):
    zygote = Zygote(executor, [], os.environ)
    yield zygote
    zygote.close()


@pytest.fixture
def start(zygote, tmp_path):
    """Starts a call whose stderr is the file of a name."""

    def start(name, code, **options):
        with (tmp_path / name).open("wb") as log:
            return zygote.start(code, log.fileno(), **options)

    return start


def ending(call, seconds=20):
    """The exit code of a call."""
    deadline = time.monotonic() + seconds
    while (exit_code := call.wait(0.1)) is None:
        assert time.monotonic() < deadline
    return exit_code


def test_calls_run_at_the_same_time_and_are_told_apart(start, tmp_path):
    meeting = """
import os, pathlib, sys, time
mine, other = os.environ["MINE"], os.environ["OTHER"]
pathlib.Path(mine).touch()
while not pathlib.Path(other).exists(): time.sleep(0.01)
print(mine, file=sys.stderr)
sys.exit(int(os.environ["CODE"]))
"""
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    first = start("first", meeting, environment={"MINE": a, "OTHER": b, "CODE": "3"})
    second = start("second", meeting, environment={"MINE": b, "OTHER": a, "CODE": "4"})
    assert (first.pid, first.seconds) == (None, 0)
    assert (ending(second), ending(first)) == (4, 3)
    assert first.pid != second.pid
    assert [(tmp_path / name).read_text() for name in ("first", "second")] == [f"{a}\n", f"{b}\n"]


def test_a_descriptor_is_held_by_its_own_run_alone_and_as_long_as_that_lives(start, until, is_gone, tmp_path):
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    up = tmp_path / "up"
    holding = start("holding", WAITING.format(up=str(up)), held=[writer])
    os.close(writer)
    until(up.exists)
    other = start("other", WAITING.format(up=str(tmp_path / "too")))
    until((tmp_path / "too").exists)
    with pytest.raises(BlockingIOError):  # somebody can write still
        os.read(reader, 1)
    for call in holding, other:
        assert call.wait(20) is None
    holding.send(signal.SIGKILL)
    assert ending(holding) == -signal.SIGKILL
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert not is_gone(other.pid)
    other.send(signal.SIGTERM)
    assert ending(other) == -signal.SIGTERM


def test_what_a_run_started_ends_with_it(start, until, is_gone, tmp_path):
    code = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, file=sys.stderr)"
    assert ending(start("log", code)) == 0
    until(lambda: is_gone(int((tmp_path / "log").read_text())))


def test_a_request_may_be_long_and_come_before_the_imports_are_done(start, tmp_path):
    assert ending(start("log", f"import sys; sys.exit(len({'x' * 100_000!r}) % 251)")) == 100_000 % 251


def test_runs_end_with_the_zygote(zygote, start, until, is_gone, tmp_path):
    ups = [tmp_path / "a", tmp_path / "b"]
    calls = [start(f"log{i}", WAITING.format(up=str(up))) for i, up in enumerate(ups)]
    assert [call.wait(20) for call in calls] == [None, None]
    _killing = start("kill", f"{ANCESTORS}\nos.kill(zygote, 9)")
    for call in calls:
        with pytest.raises(LostError, match="ended with exit code -9"):
            ending(call)
    with pytest.raises(LostError):
        ending(start("late", "pass"))
    until(lambda: all(is_gone(call.pid) for call in calls))


def test_a_lost_keeper_is_told(start, until, is_gone):
    call = start("log", "import os; os.kill(os.getppid(), 9)\nwhile True: pass")
    with pytest.raises(LostError):
        ending(call)
    until(lambda: is_gone(call.pid))


def test_a_module_that_cannot_be_imported_is_told(tmp_path):
    zygote = Zygote("no_such_module", [], os.environ)
    with (
        (tmp_path / "log").open("wb") as log,
        pytest.raises(LostError, match="ended with exit code 1: ModuleNotFoundError: No module named 'no_such_module'"),
    ):
        ending(zygote.start("", log.fileno()))
    zygote.close()


def test_a_system_without_processes_is_told(monkeypatch):
    def refuse(*arguments, **options):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    told = "the process that starts runs cannot be started: Resource temporarily unavailable"
    with pytest.raises(LostError, match=told):
        Zygote("no_such_module", [], os.environ)
    with pytest.raises(InputError, match=told):
        list(call_each("no_such_module", [], ["argument"], 1))


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
@pytest.mark.parametrize("of", [supervise, analyze], ids=["sweeps", "analysis"])
def test_what_is_preloaded_leaves_one_thread(executor, tmp_path, monkeypatch, capfd, of):
    """A lock that another thread holds in the moment of a fork is never released in the child.

    OpenBLAS ends its own threads before one.
    """
    for library in ("OMP", "MKL", "OPENBLAS"):
        monkeypatch.setenv(f"{library}_NUM_THREADS", "2")
    zygote = Zygote(executor, [of.WORKER, *of.PRELOADED], os.environ)
    report = "import sys\nfor task in pathlib.Path(f'/proc/{zygote}/task').iterdir():"
    report += " print((task / 'comm').read_text().strip(), file=sys.stderr)"
    with (tmp_path / "log").open("w+b") as log:
        assert ending(zygote.start(ANCESTORS + report, log.fileno()), 60) == 0
        log.seek(0)
        assert len(threads := log.read().decode().splitlines()) == 1, threads
    zygote.close()
    assert capfd.readouterr().err == ""  # Python 3.12 and later warn of a fork with threads


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_threads_at_a_fork_are_told(executor, tmp_path, capfd):
    (tmp_path / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    zygote = Zygote(executor, ["threaded"], os.environ)
    with (tmp_path / "log").open("wb") as log:
        assert [ending(zygote.start("pass", log.fileno())) for _ in range(2)] == [0, 0]
    zygote.close()
    told = [line for line in capfd.readouterr().err.splitlines() if "Warning" not in line and "fork()" not in line]
    (line,) = told
    assert line.startswith("the process that starts runs has threads, so that a run may hang: ")
