from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "faults.py"


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [1, 2])
def test_a_disturbed_sweep_ends_as_an_undisturbed_one(parallel):
    options = ["--runs", "8", "--faults", "7", "--stops", "1", "--parallel", str(parallel)]
    done = subprocess.run([sys.executable, BENCHMARK, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 faults, 1 stops" in done.stdout
