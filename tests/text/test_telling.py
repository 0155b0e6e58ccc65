"""What is waited for is told, if it takes long."""

from __future__ import annotations

import threading

import pytest
from filelock import FileLock

from sla_ablate.data.config import DataConfig
from sla_ablate.data.shards import prepare
from sla_ablate.text import telling
from sla_ablate.text.telling import Voice, waiting


def test_a_wait_is_told_once_and_a_short_one_not_at_all(monkeypatch):
    told = []
    with waiting("for nothing", told.append):
        pass
    monkeypatch.setattr(telling, "_PATIENCE", 0.0)
    heard = threading.Event()
    with waiting("for a word", lambda line: (told.append(line), heard.set())):
        assert heard.wait(20)
    assert told == ["for a word"]


def test_waiting_for_another_process_that_tokenizes_is_told(monkeypatch, tmp_path, small_corpus):
    """Another thread holds the lock of the cache until the word is heard."""
    config = DataConfig(str(small_corpus), tokenizer="bytes", cache=str(tmp_path))
    folder = prepare(config, log=str).folder
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    monkeypatch.setattr(telling, "_PATIENCE", 0.0)
    held, heard, told = threading.Event(), threading.Event(), []

    def hold():
        with FileLock(f"{folder}.lock"):
            held.set()
            assert heard.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(20)
    prepare(config, lambda line: (told.append(line), heard.set()))
    holder.join()
    assert told[0] == f"waiting for another process that makes {folder}"


@pytest.mark.parametrize("kind", ["__call__", "note"])
def test_without_a_block_notes_are_lines_too(capsys, kind, tmp_path):
    with (tmp_path / "run.log").open("w+") as log:
        getattr(Voice("run", log), kind)("so far")
        log.seek(0)
        assert log.read() == capsys.readouterr().out == "run  so far\n"
