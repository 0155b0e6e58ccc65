"""A module whose `main` executes the code that it is given."""

from __future__ import annotations

import time
from pathlib import Path

import pytest


@pytest.fixture
def executor(tmp_path, monkeypatch) -> str:
    """The module's name; the processes of a zygote find it."""
    (tmp_path / "executor.py").write_text("def main(arguments): exec(arguments[0], {})\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "executor"


@pytest.fixture
def until():
    """Waits for a condition."""

    def until(true, seconds=20):
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    return until


@pytest.fixture
def is_gone():
    """Tells that there is no such process, or that nobody has waited for it yet."""

    def is_gone(process):
        try:
            return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    return is_gone
