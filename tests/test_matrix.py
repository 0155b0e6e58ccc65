"""Some cells of the matrix of damaged files (benchmarks/matrix.py), drawn by a seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "torture.py"
CELLS = 20


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_damaged_files_are_named_or_repaired():
    """In a process of its own, for it forks and has to be without threads."""
    options = ["--matrix", "--cells", str(CELLS), "--seed", "0"]
    done = subprocess.run([sys.executable, BENCHMARK, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{CELLS} cells, 0 wrong" in done.stdout
