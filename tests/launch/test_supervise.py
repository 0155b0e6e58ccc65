"""One run in a process of its own, with a worker that does what the test says (tests/stub)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from sla_ablate.config.schema import ModelConfig, OptimConfig, RunConfig
from sla_ablate.files import claim, is_held
from sla_ablate.launch import supervise, sweep_signals
from sla_ablate.runs import ledger
from sla_ablate.runs.identity import identify, run_folder
from sla_ablate.runs.record import read_config, read_record

STUB = Path(__file__).parents[1] / "stub"


@pytest.fixture
def carry_out(tmp_path, monkeypatch):
    """Carries out a run whose worker executes `code`; returns its record."""
    monkeypatch.setenv("PYTHONPATH", str(STUB))
    monkeypatch.setattr(supervise, "_ESCALATION", ((0, signal.SIGTERM), (0.3, signal.SIGABRT), (0.6, signal.SIGKILL)))
    handlers = {number: signal.getsignal(number) for number in sweep_signals._SIGNALS}

    def run(code="done()", seed=0, **limits):
        monkeypatch.setenv("SLA_STUB", code)
        supervise._zygote.cache_clear()
        folder = enter(tmp_path, seed, **limits)
        supervise.carry_out(folder)
        return read_record(folder)

    run.folder = enter(tmp_path)
    yield run
    supervise._zygote.cache_clear()
    sweep_signals.received.clear()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def enter(output, seed=0, **limits):
    config = RunConfig(model=ModelConfig(2, 2, 4, 4), optim=OptimConfig(steps=9, warmup_steps=0), seed=seed)
    config.output = str(output)
    for name, value in limits.items():
        setattr(config.limits, name, value)
    ledger.enter(config, "digest")
    return run_folder(config, identify(config, "digest"))


@pytest.mark.parametrize(
    ("code", "error", "traceback"),
    [
        ("def f(): raise ValueError('no')\nf()", "exit code 1: ValueError: no", "ValueError: no"),
        ("import sys; print('bye', file=sys.stderr); sys.exit(0)", "exit code 0 without a result: bye", None),
        ("import sys; sys.exit('reason')", "exit code 1: reason", None),
        ("import os; os._exit(3)", "exit code 3: nothing logged", None),
        ("import ctypes; ctypes.string_at(0)", "ended by signal 11: Segmentation fault", "Fatal Python error: Seg"),
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9: Killed, as the system does when memory ", None),
    ],
)
def test_a_failing_run_is_told_in_its_record_and_at_once(carry_out, capsys, code, error, traceback):
    record = carry_out(code)
    assert (record["state"], record["attempt"]) == ("failed", 1)
    assert record["error"].startswith(error)
    told = capsys.readouterr().out
    assert f"failed: {error}" in told
    if traceback is None:
        assert record["traceback"] is None
    else:
        assert any(line.startswith(traceback) for line in record["traceback"])
        assert set(record["traceback"]) >= set(record["log_tail"][-3:])
        assert f"  {traceback}" in told

    record = carry_out()
    assert (record["state"], record["attempt"], record["error"]) == ("done", 2, None)
    assert "traceback" not in record


def test_a_hanging_run_is_ended_and_shows_where_it_hung(carry_out):
    code = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\ndef f(): time.sleep(60)\nf()"
    record = carry_out(code, minutes=0.5 / 60)
    assert (record["state"], record["error"]) == ("failed", "took longer than limits.minutes=0.00833333")
    assert record["traceback"][0] == "Fatal Python error: Aborted"
    assert any("in f" in line for line in record["traceback"])


def test_a_run_that_takes_too_much_memory_is_ended(carry_out):
    record = carry_out("import time; held = b'x' * 500_000_000; time.sleep(60)", memory_gb=0.4)
    assert record["state"] == "failed"
    assert record["error"].startswith("held 0.")
    assert record["error"].endswith("GB of memory, more than limits.memory_gb=0.4")


@pytest.mark.parametrize("after", ["", "folder.mkdir(); (folder / '.half').touch()"])
def test_a_run_whose_folder_is_removed_ends_as_such_and_leaves_nothing(carry_out, capsys, after):
    supervise._zygote.cache_clear()
    assert carry_out(f"import shutil; shutil.rmtree(folder); {after}") is None
    assert capsys.readouterr().out.endswith("  its folder was removed while it ran\n")
    assert not carry_out.folder.exists()
    supervise.carry_out(carry_out.folder)
    assert capsys.readouterr().out.endswith("  its folder was removed before it ran\n")
    assert not carry_out.folder.exists()


def test_why_no_process_could_be_started_is_told_and_logged(carry_out, monkeypatch):
    def refuse(*arguments, **options):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", refuse)
        record = carry_out()
    assert record["state"] == "failed"
    assert record["error"] == "the process that starts runs cannot be started: Resource temporarily unavailable"
    assert (carry_out.folder / "run.log").read_text() == f"{carry_out.folder.name}  {record['error']}\n"
    assert carry_out()["state"] == "done"


def test_nothing_of_a_run_outlives_it(carry_out):
    carry_out("import subprocess; subprocess.Popen(['sleep', '60']); print(1 / 0)")
    assert not is_held(carry_out.folder)  # the lock was inherited


def test_runs_start_clean(carry_out, monkeypatch, tmp_path):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    code = (
        "import os\n"
        "assert 'LOCAL_RANK' not in os.environ and 'LEAK' not in os.environ\n"
        "assert os.environ['OMP_NUM_THREADS'] == '1'\n"
        "os.environ['LEAK'] = '1'; done()"
    )
    assert carry_out(code)["state"] == "done"
    zygote = supervise._zygote(1)
    supervise.carry_out(second := enter(tmp_path, seed=1))
    assert supervise._zygote(1) is zygote  # the second is a child of the same process
    assert read_record(second)["state"] == "done"


def test_a_record_tells_every_sitting(carry_out):
    before = datetime.now(timezone.utc).replace(microsecond=0)
    carry_out("1 / 0")
    ledger.enter(read_config(carry_out.folder), "digest", "sla-ablate train seed=0")
    supervise.carry_out(carry_out.folder)
    record = carry_out()
    assert (record["state"], record["attempt"]) == ("done", 3)
    sittings = record["sittings"]
    assert [each["command"] for each in sittings] == [None, "sla-ablate train seed=0", None]
    times = [datetime.fromisoformat(time) for each in sittings for time in (each["began"], each["ended"])]
    assert [before, *times] == sorted([before, *times])
    assert times[-1] <= datetime.now(timezone.utc)
    assert carry_out("1 / 0") == record  # done is done


def test_a_run_that_is_done_or_held_is_left_alone(carry_out, capsys):
    record = carry_out()
    assert carry_out("1 / 0") == record
    with claim(enter(carry_out.folder.parents[1], seed=1)) as lock:
        assert lock is not None
        assert carry_out(seed=1)["state"] == "waiting"
    assert "another process runs it; left alone" in capsys.readouterr().out


WAITING = (
    "import signal, time, sys\nsignal.signal(15, lambda *_: {})\n(folder / 'up').touch()\nwhile True: time.sleep(0.05)"
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_lets_the_run_save_and_ends_the_sweep(carry_out, number):
    with pytest.raises(KeyboardInterrupt), signals(carry_out.folder, number, 0):
        carry_out(WAITING.format("(print('saved', file=sys.stderr), sys.exit(75))"))
    record = read_record(carry_out.folder)
    assert (record["state"], record["error"], record["log_tail"]) == ("interrupted", "asked to stop", ["saved"])
    assert sweep_signals.received == [number]


def test_a_second_signal_ends_the_run_at_once(carry_out):
    with (
        pytest.raises(KeyboardInterrupt),
        signals(carry_out.folder, signal.SIGINT, 0, 1.5 * sweep_signals.ECHO_SECONDS),
    ):
        carry_out(WAITING.format("None"))
    assert read_record(carry_out.folder)["state"] == "interrupted"


def test_the_echo_of_a_signal_is_no_second_one(carry_out):
    """`timeout` signals its command, and then the command's whole process group."""
    saving = "(time.sleep(0.5), print('saved', file=sys.stderr), sys.exit(75))"
    with pytest.raises(KeyboardInterrupt), signals(carry_out.folder, signal.SIGINT, 0, 0.05):
        carry_out(WAITING.format(saving))
    assert read_record(carry_out.folder)["log_tail"] == ["saved"]


def test_a_signal_during_the_imports_ends_them(carry_out, monkeypatch, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\n"
        "if 'sla_ablate.processes.zygote' in sys.orig_argv:\n"
        f"    time.sleep(60); open({str(tmp_path / 'imported')!r}, 'w')"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        carry_out()
    assert not (tmp_path / "imported").exists()
    assert read_record(carry_out.folder)["state"] == "interrupted"


def test_the_handler_of_before_has_the_last_word(carry_out):
    """As submitit's, which has Slurm queue the job again."""
    told = []
    signal.signal(signal.SIGUSR2, lambda number, frame: told.append((number, read_record(carry_out.folder)["state"])))
    with pytest.raises(KeyboardInterrupt), signals(carry_out.folder, signal.SIGUSR2, 0):
        carry_out(WAITING.format("sys.exit(75)"))
    assert told == [(signal.SIGUSR2, "interrupted")]


def test_a_run_whose_supervisor_was_killed_saves_and_ends(carry_out):
    code = WAITING.format("((folder / 'saved').touch(), sys.exit(75))")
    supervisor = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from sla_ablate.launch.supervise import *; carry_out(Path({str(carry_out.folder)!r}))",
        ],
        env={**os.environ, "SLA_STUB": code},
    )
    _until((carry_out.folder / "up").exists)
    assert ledger.cell(carry_out.folder).state == "running"
    supervisor.kill()
    supervisor.wait()
    _until((carry_out.folder / "saved").exists)
    _until(lambda: not is_held(carry_out.folder))
    assert read_record(carry_out.folder)["state"] == "running"  # nobody was left to say more
    assert ledger.cell(carry_out.folder).state == "interrupted"


@contextlib.contextmanager
def signals(folder, number, *delays):
    """Sends this process signals, so many seconds after one another, once the run of a folder is up."""

    def send():
        _until((folder / "up").exists, 60)
        for seconds in delays:
            time.sleep(seconds)
            os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()  # while the signals are still collected


def _until(true, seconds=20):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)
