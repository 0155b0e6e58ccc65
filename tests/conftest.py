"""Shared fixtures: the numeric oracles, and a small corpus."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sla_ablate.config import DataConfig
from sla_ablate.data.shards import TokenShards, prepare

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


@pytest.fixture(scope="session")
def short_shards(tmp_path_factory) -> TokenShards:
    """Byte tokens of fifty documents, 1 to 40 bytes long."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("short")
    lines = (json.dumps({"id": f"doc{i}", "text": "".join(rng.choice(list("abcd "), 1 + i % 40))}) for i in range(50))
    (folder / "short.jsonl").write_text("\n".join(lines) + "\n")
    return prepare(DataConfig(str(folder / "short.jsonl"), tokenizer="bytes", cache=str(folder)), log=lambda line: None)
