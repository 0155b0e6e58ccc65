"""The ledger, and sweeps of runs that take no time (tests/stub)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_up_records import ending

from sla_ablate.commands.status import run as run_status
from sla_ablate.config.schema import ModelConfig, OptimConfig, RunConfig
from sla_ablate.errors import InputError
from sla_ablate.files import claim
from sla_ablate.launch import launch
from sla_ablate.runs import ledger, status
from sla_ablate.runs.identity import identify, run_folder
from sla_ablate.runs.record import read_config, read_record, read_summary, write_record


@pytest.fixture
def config(tmp_path):
    model, optim = ModelConfig(2, 2, 4, 4), OptimConfig(steps=100, batch_size=5, warmup_steps=0)
    return RunConfig(model=model, optim=optim, output=str(tmp_path), sweep="s")


@pytest.fixture
def folder(config):
    ledger.enter(config, "digest")
    return run_folder(config, identify(config, "digest"))


def change(folder, **values):
    write_record(folder, read_record(folder) | values)


def finish(folder):
    change(folder, **ending(tokens_per_second=7.0))


def test_a_run_waits_until_it_is_carried_out(folder):
    assert ledger.cell(folder) == ledger.Cell(folder.name, "waiting", 0, 0, 100, 20, None, None)


def test_a_run_that_is_not_done_takes_new_options_and_one_that_is_done_does_not(config, folder):
    change(folder, state="failed", attempt=3, error="no")
    config.trainer.threads = 2
    ledger.enter(config, "digest")
    assert read_config(folder).trainer.threads == 2
    record = read_record(folder)
    assert (record["state"], record["attempt"], record["error"]) == ("failed", 3, "no")

    finish(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    config.trainer.threads = 3
    ledger.enter(config, "digest")
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


def test_a_run_that_is_done_takes_a_label_and_nothing_else(config, folder):
    config.pattern.name = "sla"
    ledger.enter(config, "digest")
    folder = run_folder(config, identify(config, "digest"))
    finish(folder)
    before = read_record(folder)
    config.pattern.label = "Ours"
    ledger.enter(config, "digest")
    assert run_folder(config, identify(config, "digest")) == folder
    after = read_record(folder)
    assert after.pop("pattern") == {**before.pop("pattern"), "label": "Ours"}
    assert after == before


def test_a_held_run_is_not_touched(config, folder):
    with claim(folder):
        config.trainer.threads = 2
        ledger.enter(config, "digest")
    assert read_config(folder).trainer.threads == 1


@pytest.mark.parametrize("state", ["done", "diverged", "failed"])
@pytest.mark.parametrize("what", ["configuration", "record", "name", "data"])
def test_a_folder_of_another_configuration_is_refused_and_kept(config, folder, state, what):
    finish(folder)
    change(folder, state=state)
    digest = "digest"
    if what == "configuration":
        path = folder / "config.yaml"
        path.write_text(path.read_text().replace("lr: 0.003", "lr: 0.004"))
    elif what == "record":
        change(folder, pairing="0" * 16)
    elif what == "name":
        config.seed = 1
        other = run_folder(config, identify(config, digest))
        folder = folder.rename(other)
    else:
        digest = "another"
        folder = folder.rename(run_folder(config, identify(config, digest)))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match="holds a run of another configuration"):
        ledger.enter(config, digest)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


def test_a_pattern_that_only_the_folder_names_is_not_called(config, folder, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "stranger.py").write_text("import pathlib; pathlib.Path(__file__).with_name('called').touch()\n")
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("name: baseline", "name: stranger:run"))
    ledger.enter(config, "digest")
    assert not (tmp_path / "called").exists()
    assert read_config(folder) == config


def test_a_run_is_not_written_through_a_link(config, folder, tmp_path):
    precious = folder.rename(tmp_path / "precious")
    before = {path: path.read_bytes() for path in precious.iterdir()}
    folder.symlink_to(precious)
    with pytest.raises(InputError, match=f"{folder} is a link"):
        ledger.enter(config, "digest")
    assert before == {path: path.read_bytes() for path in precious.iterdir()}


def test_a_summary_is_the_record_without_its_results(folder):
    assert read_summary(folder) == read_record(folder)
    finish(folder)
    record = read_record(folder)
    del record["results"]
    assert read_summary(folder) == record
    for damaged in ("{", "[" * 100_000):
        (folder / "record.json").write_text(damaged)
        with pytest.raises(InputError, match=r"record\.json is damaged"):
            read_summary(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps: 100", "steps: six", "optim.steps='six' is of another type; it has to be int"),
        ("steps: 100", "steps: .inf", "optim.steps=inf is of another type; it has to be int"),
        ("steps: 100", "steps: 0", "optim.steps=0 is not possible; choose 1 to 1000000000"),
        ("steps: 100", "stepz: 100", "option 'optim.stepz' is unknown; .*did you mean 'optim.steps'"),
        ("lr: 0.003", "lr: true", "optim.lr=True is of another type; it has to be float"),
        ("lr: 0.003", "lr: null", "optim.lr=None is of another type; it has to be float"),
        ("name: baseline", "name: [baseline]", "pattern.name=.* is of another type; it has to be str"),
        ("optim:", "optim: 3\nx:", "optim is no mapping of names to values"),
        ("model:", "- model:", "config.yaml cannot be read"),
        ("", None, "the configuration is no mapping of names to values"),
    ],
)
def test_a_damaged_configuration_is_one_line(folder, old, new, message):
    path = folder / "config.yaml"
    text = path.read_text()
    assert old in text
    path.write_text("3\n" if new is None else text.replace(old, new, 1))
    with pytest.raises(InputError, match=message) as error:
        read_config(folder)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_progress_is_the_end_of_the_metrics(folder):
    change(folder, state="running", attempt=2)
    lines = [{"step": step, "loss": 1.0, "tokens_per_second": 10.0 * step} for step in range(1, 60)]
    lines.append({"step": 59, "validation_loss": 2.0})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"step": 60, "lo')  # being written
    assert ledger.cell(folder).state == "interrupted"  # nobody holds it: it was killed
    with claim(folder):
        cell = ledger.cell(folder)
        assert (cell.state, cell.step, cell.tokens_per_second, cell.attempt) == ("running", 59, 590.0, 2)
        assert cell.seconds_left == pytest.approx(41 * 20 / 590)
        assert ledger.summary([cell]) == "1 run(s): 1 running; 590 tokens/s, about 0:01 left"


def test_status_shows_every_run(config, folder, capsys, monkeypatch):
    finish(folder)
    config.seed = 1
    ledger.enter(config, "digest", "sla-ablate train -m seed=0,1")
    ledger.enter(config, "digest", "sla-ablate retry s")  # which did not make it
    status.show(folder.parent, watch=False, as_json=False)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1:3] == [[rows[1][0], "waiting", "0/100"], [folder.name, "done", "100/100", "7", "1"]]
    assert " ".join(rows[-2]) == "2 run(s): 1 done, 1 waiting"
    assert " ".join(rows[-1]) == "made by: sla-ablate train -m seed=0,1"
    status.show(folder.parent, watch=False, as_json=True)
    assert [cell["state"] for cell in json.loads(capsys.readouterr().out)] == ["waiting", "done"]

    monkeypatch.chdir(folder.parents[1])
    with pytest.raises(InputError, match="no sweeps under runs"):
        status.show(None, watch=False, as_json=False)
    Path("runs").symlink_to(".")
    status.show(None, watch=False, as_json=False)
    assert capsys.readouterr().out == "s  2 run(s): 1 done, 1 waiting\n"
    with pytest.raises(InputError, match="none holds no runs; beside it there are: runs, s"):
        status.show(folder.parents[1] / "none", watch=False, as_json=False)


def test_status_shows_what_failed_first_and_why(config, folder, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    error = "ValueError: the corpus is not what it was when the run began, so that it cannot go on"
    sitting = {"began": "2026-01-02T03:04:05", "ended": None, "command": None, "host": "node7"}
    change(folder, state="failed", error=error, attempt=2, sittings=[sitting])
    (folder / "metrics.jsonl").write_text('{"step": 7, "loss": 2.5}\n{"step": 7, "validation_loss": 2.625}\n')
    for config.optim.lr in (1e-3, 1e-4):
        ledger.enter(config, "digest")

    def lines(*options):
        assert run_status([str(folder.parent), *options]) == 0
        return capsys.readouterr().out.splitlines()

    header, first, *_ = lines()
    assert header.split() == "run state lr step loss validation attempt began (UTC) host error".split()
    told = f"{folder.name} failed 0.003 7/100 2.500 2.6250 2 01-02 03:04 node7 {error}"
    assert first.split() == told.split()
    monkeypatch.setenv("COLUMNS", "80")
    header, first, *others = lines()
    assert all(len(line) <= 80 for line in [header, first, *others[:3]])
    assert "failed" in first
    assert "ValueError: the corpus" in first
    assert first.endswith("…")
    assert [line.split()[0] for line in lines("--state", "failed")[1:2]] == [folder.name]
    assert len(lines("--state", "failed")) == 4
    assert [line.split()[2] for line in lines("--where", "optim.lr=1e-4")[1:-2]] == ["0/100"]


def test_status_needs_no_torch():
    code = "import sys, sla_ablate.runs.status; sys.exit(any(m in sys.modules for m in ('torch', 'pandas', 'hydra')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_slurm_is_asked_for_another_turn_by_its_own_signals_only(tmp_path, monkeypatch, capfd):
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\necho "$@"\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    launch._requeue(signal.SIGTERM)  # not under Slurm
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    launch._requeue(signal.SIGINT)
    assert capfd.readouterr().out == ""
    launch._requeue(signal.SIGUSR1)
    assert capfd.readouterr().out == "requeue 42\njob 42 is queued again\n"


@pytest.mark.slow
def test_a_sweep_is_shown_sharded_repeated_widened_and_retried(sla, tmp_path):
    assert sla("prepare", *sla.overrides[-2:], "data.tokenizer=bytes")[0] == 0  # or its runs could not be told
    code, output = sla("train", "--list")
    assert (code, output.splitlines()[-1]) == (0, "4 run(s): 4 waiting")
    assert not (tmp_path / "runs").exists()

    odd = "1 / 0 if record['seed'] else done()"
    code, output = sla("train", "--shard", "1/2", code=odd)
    assert code == 0, output
    assert sla.states() == [("done", 1)] * 2
    code, output = sla("train", "--shard", "2/2", code=odd)
    assert code == 1
    assert output.count("failed: exit code 1: ZeroDivisionError: division by zero") == 2
    assert output.splitlines()[-1] == "runs/s; next: sla-ablate retry runs/s"
    assert output.splitlines()[-2] == "2 failed"

    code, output = sla("train", "seed=0,1,2", code=odd)
    assert (code, output.splitlines()[-2]) == (1, "2 done, 4 failed")
    assert sorted(sla.states()) == [
        ("done", 1),
        ("done", 1),
        ("failed", 1),
        ("failed", 1),
        ("failed", 2),
        ("failed", 2),
    ]
    code, output = sla("retry", "runs/s", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert (code, output.splitlines()[-2]) == (0, "6 done")
    assert {cell.attempt for cell in sla.cells()} == {1, 2, 3}
    code, output = sla("retry", "runs/s", "seed=1")
    assert (code, output.count("\n")) == (2, 1)


@pytest.mark.slow
def test_what_diverged_is_told_counted_and_not_repeated(sla):
    odd = (
        "from sla_ablate.runs.record import write_record\n"
        "lost = {'state': 'diverged', 'error': 'the training loss is not finite at step 7', 'diverged_at_step': 7}\n"
        "write_record(folder, record | lost) if record['seed'] else done()"
    )
    code, output = sla("train", code=odd)
    assert (code, output.splitlines()[-2]) == (1, "2 done, 2 diverged")
    assert "not repeated" not in output
    for again in (["train"], ["retry", "runs/s"]):
        code, output = sla(*again)  # whose runs would be done
        assert (code, output.splitlines()[-2]) == (1, "2 done, 2 diverged")
        assert output.count("2 run(s) had diverged before and would again: not repeated unless ") == 1
        assert {cell.attempt for cell in sla.cells()} == {1}
    code, output = sla("train", "--list")
    assert (code, output.splitlines()[-1]) == (0, "4 run(s): 2 done, 2 diverged")


@pytest.mark.parametrize(
    ("text", "message"),
    [("0/2", "0/2 is no share"), ("3/2", "3/2 is no share"), ("1", "1 is no share")],
)
def test_a_share_has_to_be_one(here, sla, text, message):
    done = here("train", *sla.overrides, "--shard", text)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]])
@pytest.mark.parametrize("of_terminal", [True, False])
def test_one_signal_lets_every_run_save_and_ends_the_sweep(sla, tmp_path, launcher, of_terminal):
    saving = (
        "import signal, sys, time\n"
        "signal.signal(15, lambda *_: (print('saved', file=sys.stderr), time.sleep(0.3), sys.exit(75)))\n"
        "(folder / 'up').touch()\n"
        "while True: time.sleep(0.05)"
    )
    sweep = sla.start("train", *launcher, code=saving)
    parallel = 2 if launcher else 1
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("runs/s/*/up"))) < parallel:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    # A terminal's Ctrl-C reaches joblib's processes too, kill does not.
    (os.killpg if of_terminal else os.kill)(sweep.pid, signal.SIGINT)
    output, _ = sweep.communicate(timeout=30)
    assert sweep.returncode == 130, output
    assert output.count("interrupted: asked to stop") == parallel
    assert output.splitlines()[-2] == f"{4 - parallel} waiting, {parallel} interrupted"
    assert "Traceback" not in output
    code, output = sla("train")
    assert (code, output.splitlines()[-2]) == (0, "4 done")


def test_a_sweep_that_the_disk_cannot_hold_is_refused(here, sla, tmp_path):
    done = here("train", *sla.overrides, "model.n_layer=1000", "model.n_embd=40000")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "GB of disk are needed for 4 run(s)" in done.stderr
    assert list(tmp_path.iterdir()) == []
