"""Nobody reads what a process prints: a command goes on, and ends as it would have."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from sla_ablate.text import streams

PRINTS = """
import sys
from sla_ablate.text import streams
streams.settle()
streams.settle()
for stream in (sys.stdout, sys.stderr):
    print("é" * 100_000, file=stream, flush=True)
opened = open("opened", "w")
assert opened.fileno() > 2
raise SystemExit(sys.stdin.read() or 7)
"""


@pytest.mark.parametrize(
    "redirected",
    [">/dev/full 2>/dev/full", ">&- 2>&- <&-", ">&-", "2>&-", "</dev/null >/dev/null 2>&1", "2>/dev/full | true"],
)
@pytest.mark.parametrize("option", ["", "-u"])
def test_what_cannot_be_shown_ends_nothing(tmp_path, redirected, option):
    (tmp_path / "prints.py").write_text(PRINTS)
    command = f'set -o pipefail; "{sys.executable}" {option} prints.py {redirected}'
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, stdin=subprocess.DEVNULL, env={**os.environ})
    assert done.returncode == 7


def test_a_stream_that_was_replaced_is_left_alone(monkeypatch):
    ours = io.StringIO()
    monkeypatch.setattr("sys.stdout", ours)
    streams.settle()
    assert sys.stdout is ours
