from __future__ import annotations

import os
import shutil

import pytest

from sla_ablate.files import remove_unfinished, replacing, write_atomically


def test_writes_and_replaces(tmp_path):
    target = tmp_path / "new" / "file"
    write_atomically(target, b"one")
    write_atomically(target, b"two")
    assert target.read_bytes() == b"two"
    assert [p.name for p in target.parent.iterdir()] == ["file"]


def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
    target = tmp_path / "file"
    write_atomically(target, b"old")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_an_error_names_the_file_and_a_missing_folder_stays_missing(tmp_path):
    target = tmp_path / "gone" / "file"
    with pytest.raises(FileNotFoundError) as error, replacing(target):
        pass
    assert error.value.filename == str(target)
    assert not target.parent.exists()


def test_what_killed_writers_left_is_removed(tmp_path):
    kept = tmp_path / "file", tmp_path / ".lock", tmp_path / "file.tmp", tmp_path / ".somebody-elses.tmp"
    for path in kept:
        path.touch()
    with replacing(tmp_path / "file"):
        (unfinished,) = tmp_path.glob(".file.*")
        shutil.copy(unfinished, tmp_path / ".another.0a_z9bcd.tmp")
        (tmp_path / "below").mkdir()
        shutil.copy(unfinished, tmp_path / "below" / unfinished.name)
    remove_unfinished(tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(kept)
