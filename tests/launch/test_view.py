"""What is shown of a sweep, from its ledger, and a sweep on a terminal and without one."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import sys
import time

import pytest
from made_up_records import ending
from terminal import shown
from test_supervise import STUB, enter

from sla_ablate.files import claim
from sla_ablate.launch import view
from sla_ablate.launch.view import SweepView
from sla_ablate.runs.record import read_record, write_record

TALKS = """
import time
from sla_ablate.text.telling import Voice
say = Voice(folder.name)
def wait(name):
    while not (folder.parents[2] / name).exists(): time.sleep(0.05)
say.note("warming up")
wait("warm")
with (folder / "metrics.jsonl").open("w") as file:
    print('{"step": 3, "loss": 2.5, "tokens_per_second": 8.0}', file=file)
wait("go")
say("a warning")
1 / 0 if "sla" in folder.name and record["seed"] else done()
say("done: well")
"""


def test_totals_are_those_of_the_ledger(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(view.time, "monotonic", lambda: now[0])
    folders = [enter(tmp_path, seed) for seed in range(4)]  # of 9 steps each

    def become(folder, state, **more):
        record = read_record(folder)
        write_record(folder, record | {"state": state, "attempt": record["attempt"] + (state == "running"), **more})

    done = {name: value for name, value in ending().items() if name not in ("state", "attempt")}
    become(folders[0], "done", **done)
    become(folders[1], "running")
    become(folders[1], "failed", error="before")
    look = SweepView("s", folders, before=2, after=4)
    whole, parts, ended = vars(look()).values()
    assert (whole.name, whole.text, parts, ended) == ("s", "3/10 runs", [], [])
    assert whole.done / whole.of == pytest.approx(3 / 10)

    now[0] += 50  # imports
    with claim(folders[1]):
        become(folders[1], "running", error=None)
        look()
        now[0] += 10
        line = {"step": 3, "loss": 2.5, "tokens_per_second": 8.0}
        (folders[1] / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        whole, (part,), ended = vars(look()).values()
    tokens = read_record(folders[1])["config"]["optim"]["batch_size"] * 4
    assert (part.name, part.done, part.of) == (folders[1].name, 3, 9)
    assert part.text == f"step 3/9  loss 2.500  8 tokens/s  {view.duration(6 * tokens / 8)} left"
    assert whole.done / whole.of == pytest.approx((3 + 3 / 9) / 10)
    # A third of a run in ten seconds, and six and two thirds to come.
    assert whole.text == "3/10 runs, 3:20 left"

    become(folders[1], "failed", error="no luck")
    become(folders[2], "done", **done)
    whole, parts, ended = vars(look()).values()
    assert whole.text.startswith("5/10 runs, 1 failed, ")
    assert sorted(ended) == sorted([(folders[1].name, "failed: no luck"), (folders[2].name, "done")])
    assert look().ended == []


@pytest.fixture
def on_a_terminal(sla, tmp_path):
    """Starts the sweep of `sla` on a terminal of its own; returns the process's id and the terminal's descriptor."""

    def start(code):
        process, terminal = pty.fork()
        if process == 0:
            os.chdir(tmp_path)
            os.environ |= {"PYTHONPATH": str(STUB), "SLA_STUB": code, "TERM": "xterm-256color", "COLUMNS": "120"}
            os.execv(sys.executable, [sys.executable, "-m", "sla_ablate", "train", *sla.overrides])
        return process, terminal

    return start


def test_a_sweep_on_a_terminal(sla, on_a_terminal, tmp_path):
    process, terminal = on_a_terminal(TALKS)
    output = b""

    def read_until(text):
        nonlocal output
        while text not in output:
            assert select.select([terminal], [], [], 60)[0], output
            output += os.read(terminal, 1 << 16)

    read_until(b"warming up")
    (tmp_path / "warm").touch()
    read_until(b"step 3/")
    now = shown(output.decode())
    assert any(re.match(r"s +━+ 0/4 runs", line) for line in now)
    assert any(
        re.match(r"baseline-s0-\w+ +[━╸╺]+ step 3/\d+  loss 2.500  8 tokens/s  [\d:]+ left", line) for line in now
    )
    (tmp_path / "go").touch()
    read_until(b"next: sla-ablate retry runs/s")
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 1
    os.close(terminal)
    assert output.count(b"4/4 runs, 1 failed") >= 1
    lines = [line for line in shown(output.decode()) if line]
    assert not any("━" in line or "warming up" in line for line in lines)  # the bars are gone, and so are notes
    assert sum("  a warning" in line for line in lines) == 4
    assert sum("  done: well" in line for line in lines) == 3
    assert any("ZeroDivisionError" in line for line in lines)
    assert lines[-2:] == ["3 done, 1 failed", "runs/s; next: sla-ablate retry runs/s"]


def test_a_terminal_that_is_gone_ends_no_run(sla, on_a_terminal, tmp_path):
    (tmp_path / "warm").touch()
    process, terminal = on_a_terminal(TALKS.replace('"sla" in', '"none" in'))
    while b"warming up" not in os.read(terminal, 1 << 16):
        pass
    os.close(terminal)  # which has the system send SIGHUP too
    time.sleep(0.2)
    (tmp_path / "go").touch()
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert sla.states() == [("done", 1)] * 4


def test_without_a_terminal_there_are_lines_and_a_closed_pipe_ends_no_run(sla, tmp_path):
    for name in ("warm", "go"):
        (tmp_path / name).touch()
    code, output = sla("train", code=TALKS)
    assert code == 1
    assert "\x1b" not in output and "\x1e" not in output
    assert [len(re.findall(rf"^\S+  {line}$", output, re.MULTILINE)) for line in ("warming up", "done: well")] == [4, 3]
    process = sla.start("retry", "runs/s", code=TALKS.replace("1 / 0", "done()"))
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert sorted(sla.states()) == [("done", 1)] * 3 + [("done", 2)]
