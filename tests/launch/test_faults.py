from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "faults.py"


@pytest.mark.slow
def test_a_disturbed_sweep_ends_as_an_undisturbed_one():
    """All faults but a run that hangs, which takes long to be ended, and a full disk; both have tests of their own."""
    options = ["--runs", "6", "--faults", "5", "--stops", "1", "--parallel", "2"]
    done = subprocess.run([sys.executable, BENCHMARK, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 faults, 1 stops" in done.stdout
