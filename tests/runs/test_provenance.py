"""What a record says of the command, the code and the time of a run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from sla_ablate.config.schema import RunConfig
from sla_ablate.runs import ledger, provenance
from sla_ablate.runs.identity import identify, run_folder
from sla_ablate.runs.provenance import begin, command_line
from sla_ablate.runs.record import read_summary, write_record


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one commit, from which the code is run."""
    monkeypatch.setattr(provenance, "CHECKOUT", tmp_path / "checkout")
    (tmp_path / "checkout/sla_ablate").mkdir(parents=True)
    (tmp_path / "checkout/sla_ablate/a.py").write_text("1\n")
    (tmp_path / "checkout/README.md").write_text("1\n")
    git(tmp_path / "checkout", "init", "-q")
    git(tmp_path / "checkout", "add", ".")
    git(tmp_path / "checkout", "commit", "-qm", "first")
    provenance._code.cache_clear()
    yield tmp_path / "checkout"
    provenance._code.cache_clear()


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, "-C", folder, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def code():
    provenance._code.cache_clear()
    sitting = begin(None)
    return sitting["git_commit"], sitting["git_changes"]


def test_a_changed_working_tree_does_not_look_like_its_commit(checkout, monkeypatch):
    commit = git(checkout, "rev-parse", "HEAD")
    assert code() == (commit, None)
    (checkout / "notes.txt").write_text("of no account\n")
    assert code() == (commit, None)
    seen = set()
    for change in (
        lambda: (checkout / "sla_ablate/a.py").write_text("2\n"),
        lambda: (checkout / "sla_ablate/a.py").write_text("3\n"),
        lambda: (checkout / "sla_ablate/é new.py").write_text("1\n"),
        lambda: (checkout / "README.md").unlink(),
        lambda: git(checkout, "add", "."),  # staged or not, it is not in the commit
        lambda: (checkout / "sla_ablate/é new.py").write_text("2\n"),
    ):
        change()
        assert code()[0] == commit
        assert code() == code()
        seen.add(code()[1])
    assert None not in seen
    assert len(seen) == 5 + 1  # `notes.txt` is staged too
    git(checkout, "commit", "-qm", "second")
    git(checkout, "checkout", "-q", ".")
    assert code() == (git(checkout, "rev-parse", "HEAD"), None)
    monkeypatch.setenv("GIT_DIR", str(checkout.parent))  # as in a hook of git's
    assert code()[0] == git(Path(provenance.CHECKOUT), "--git-dir", f"{checkout}/.git", "rev-parse", "HEAD")


def test_where_there_is_no_checkout_or_no_git_there_is_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert code() == (None, None)
    shutil.rmtree(checkout / ".git")
    assert code() == (None, None)


def test_the_command_line_is_as_typed_but_for_secrets():
    typed = ["-m", "pattern=baseline,sla", "data.path=my corpus/*.txt", "data.tokenizer=bpe", "pattern.share=keys"]
    typed += ["model.n_kv_head=2", "data.text_field=tokens", "pattern.key_source=[[0, 0]]", "trainer.keep_best=true"]
    assert shlex.split(command_line("train", typed)) == ["sla-ablate", "train", *typed]
    for secret in (
        "logger.api_key=hunter2", "hydra.job.env_set.WANDB_API_KEY=hunter2", "my.password='hunter2 too'",
        "hydra.launcher.setup=[export HF_TOKEN=hunter2, 'export AWS_SECRET_ACCESS_KEY=\"hunter2\"', nothing]",
        "x={access-key: hunter2, y: 1}", "logger.tracking_uri=https://me:hunter2@host/path",
    ):  # fmt: skip
        told = command_line("train", [secret])
        assert "hunter2" not in told and "***" in told, told
        assert shlex.split(told)[2].split("=")[0] == secret.split("=")[0]


def test_git_is_asked_once_however_many_runs_there_are(sla, tmp_path):
    """Two by two runs, tried twice, with a `git` that counts."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text(f"#!/bin/sh\necho $* >> {tmp_path}/asked\necho abc\n")
    (tmp_path / "bin/git").chmod(0o755)
    code, output = sla("train", code="1 / 0", PATH=f"{tmp_path}/bin:{os.environ['PATH']}")
    assert code == 1, output
    in_checkout = (provenance.CHECKOUT / ".git").exists()
    asked = (tmp_path / "asked").read_text().count("rev-parse") if in_checkout else 1
    assert asked == 1


def test_status_of_a_run_says_where_it_comes_from(here, tmp_path):
    config = RunConfig(output=str(tmp_path), sweep="s")
    ledger.enter(config, "digest", "sla-ablate train sweep=s")
    folder = run_folder(config, identify(config, "digest"))
    sitting = {"began": "2026-01-02T03:04:05", "ended": None, "command": "sla-ablate retry s", "git_commit": "c0ffee"}
    sittings = [sitting | {"host": "node7", "git_changes": changes} for changes in (None, "abc")]
    write_record(folder, read_summary(folder) | {"sittings": sittings, "environment": {"versions": {"torch": "2"}}})
    done = here("status", str(folder))
    lines = dict(re.split("  +", line, maxsplit=1) for line in map(str.strip, done.stdout.splitlines()))
    assert lines["asked for by"] == "sla-ablate train sweep=s"
    assert lines["command"] == "sla-ablate retry s"
    assert lines["code"] == "commit c0ffee and changes abc, which are in no commit"
    assert lines["sitting 1"] == "2026-01-02T03:04:05 to ?, on node7"
    assert lines["versions"] == "torch 2"
    assert json.loads(here("status", str(folder), "--json").stdout)["run_id"] == folder.name
    assert here("status", str(folder), "--state", "done").returncode == 2
