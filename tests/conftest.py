"""Shared fixtures: the numeric oracles, and a small corpus."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

ORACLES = sorted((Path(__file__).parent / "fixtures").glob("*.npz"))


@pytest.fixture(params=ORACLES, ids=lambda path: path.stem)
def oracle(request):
    with np.load(request.param) as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory) -> Path:
    """Forty documents of made-up English, 60 kB."""
    words = "the law of this land shall be kept by each state and its people in peace or war".split()
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("corpus") / "small.jsonl"
    lines = (json.dumps({"id": f"doc{i}", "text": " ".join(rng.choice(words, size=400))}) for i in range(40))
    path.write_text("\n".join(lines) + "\n")
    return path
