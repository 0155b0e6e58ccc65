"""Reading a sweep: what is no run, or no longer, is named, and changes nothing for the others."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from sla_ablate.config.schema import ModelConfig, OptimConfig, RunConfig
from sla_ablate.errors import InputError
from sla_ablate.files import opened, read
from sla_ablate.runs import ledger
from sla_ablate.runs.identity import identify, run_folder
from sla_ablate.runs.record import read_record, write_record
from sla_ablate.runs.sweep import check_all_read, read_sweep


@pytest.fixture
def sweep(tmp_path):
    """Three waiting runs."""
    model, optim = ModelConfig(2, 2, 4, 4), OptimConfig(steps=100, batch_size=5, warmup_steps=0)
    for seed in range(3):
        config = RunConfig(model=model, optim=optim, output=str(tmp_path), sweep="s", seed=seed)
        ledger.enter(config, "digest")
    assert run_folder(config, identify(config, "digest")).parent == tmp_path / "s"
    return tmp_path / "s"


def names(found):
    return [run.folder.name for run in found.runs]


def test_a_copy_is_named_and_not_counted(sweep, here, capsys):
    before = names(read_sweep(sweep))
    first = sweep / before[0]
    shutil.copytree(first, sweep / f"{first.name}.bak")
    (sweep / "notes").mkdir()
    (sweep / "report").mkdir()
    found = read_sweep(sweep)
    assert names(found) == before
    assert [(each.folder.name, each.state) for each in found.left_out] == [
        (f"{first.name}.bak", "copy"),
        ("notes", "no run"),
    ]
    check_all_read(found.left_out)  # nothing is the matter
    done = here("status", str(sweep))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "3 run(s): 3 waiting; 2 other folder(s)")
    assert "a copy that is not counted" in done.stdout


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "record.json is damaged ( is no mapping)"),
        ("5", "is damaged"),
        ("null", "is damaged"),
        ("{}", "has no 'schema'"),
        ('{"schema": 2}', "is of schema 2; this version reads 3"),
        ("[" * 10**5, "nested too deeply"),
        (None, "has lost its record.json"),
    ],
)
def test_one_damaged_run_does_not_hide_the_others(sweep, here, text, reason):
    first, *others = names(read_sweep(sweep))
    record = sweep / first / "record.json"
    record.unlink() if text is None else record.write_text(text)
    found = read_sweep(sweep)
    assert names(found) == others
    with pytest.raises(InputError) as error:
        check_all_read(found.left_out)
    assert str(sweep / first) in str(error.value)
    assert reason in str(error.value)
    assert "delete" not in str(error.value)
    done = here("status", str(sweep))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (2, "3 run(s): 2 waiting, 1 unreadable")


def test_what_is_changed_in_a_record_is_seen(sweep):
    first, *_ = names(read_sweep(sweep))
    path = sweep / first / "record.json"
    text = path.read_text()
    path.write_text(text.replace('"seed": 0', '"seed": 7'))
    assert path.read_text() != text
    with pytest.raises(InputError, match="changed since it was written"):
        read_record(sweep / first)


@pytest.mark.parametrize("key", ["run_id", "state", "pattern", "config", "attempt"])
def test_a_record_that_lacks_something_is_damaged(sweep, key):
    folder = sweep / names(read_sweep(sweep))[0]
    record = read_record(folder)
    del record[key]
    write_record(folder, record)
    with pytest.raises(InputError, match=f"record.json is damaged .*has no '{key}'"):
        read_record(folder)


def test_absurd_sizes_are_refused_before_anything_is_made_of_them(sweep):
    folder = sweep / names(read_sweep(sweep))[0]
    record = read_record(folder)
    tables = {"key_source": [[0]] * 200_000, "value_source": [[0]] * 200_000}
    write_record(folder, record | {"pattern": record["pattern"] | tables})
    with pytest.raises(InputError, match="key_source has more than 4096 entries"):
        read_record(folder)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "long", "behind a link"])
def test_only_files_are_read_and_no_more_of_them_than_can_be_needed(tmp_path, kind):
    path = tmp_path / "a" / "file"
    path.parent.mkdir()
    if kind == "link":
        (tmp_path / "other").write_text("secret")
        path.symlink_to(tmp_path / "other")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "long":
        path.write_bytes(b"x" * 11)
    else:
        path.write_text("secret")
        path.parent.rename(tmp_path / "b")
        (tmp_path / "a").symlink_to(tmp_path / "b")
    with pytest.raises(InputError, match=f"{path} (is a link|is no file|has more than)"):
        read(tmp_path, "a/file", 10)


def test_a_file_is_read_whole(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 10)
    assert read(tmp_path, "file", 10) == b"x" * 10
    with opened(tmp_path, "file") as file:
        assert file.read() == b"x" * 10
    with pytest.raises(FileNotFoundError):
        read(tmp_path, "none", 10)


def test_status_needs_no_right_to_write(sweep, monkeypatch):
    """Root may write anywhere, so the refusal is made up."""
    original = os.open

    def refuse(path, flags, *rest, **options):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, flags, *rest, **options)

    folder = sweep / names(read_sweep(sweep))[0]
    write_record(folder, read_record(folder) | {"state": "running"})
    monkeypatch.setattr(os, "open", refuse)
    assert [cell.state for cell in ledger.cells(sweep)].count("interrupted") == 1


def test_lines_that_are_no_metrics_are_told_and_left_out(sweep):
    from sla_ablate.runs.metrics import last_metrics, no_metrics, read_metrics

    folder = sweep / names(read_sweep(sweep))[0]
    good = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}]
    bad = ["5", "[]", "{}", '{"step": "3"}', '{"step": 3, "loss": "x"}', '{"step": 10000000000}', "\x00"]
    lines = [json.dumps(good[0]), *bad, json.dumps(good[1]), '{"step": 3, "lo']
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    read_lines, others = read_metrics(folder, {})
    assert (read_lines, others) == (good, list(range(2, 2 + len(bad))))
    assert last_metrics(folder) == good
    assert no_metrics(folder, others).endswith("7 line(s) are no metrics, the first is line 2; they are left out")
