"""Importing the package is light."""

from __future__ import annotations

import subprocess
import sys


def test_torch_is_imported_when_diversity_is_first_used():
    code = "import sys, analysis; assert 'torch' not in sys.modules; from analysis import HeadDiversity, measure_heads"
    subprocess.run([sys.executable, "-c", code], check=True)
