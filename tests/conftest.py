"""Shared fixtures: the numeric oracles, a small corpus, and the command line in a process of its own or in this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

# One thread in every process of the suite, before anything loads a library that counts cores: for tensors as small
# as the tests' a second thread costs ten times what it saves.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

import hypothesis
import numpy as np
import pytest

from sla_ablate import commands
from sla_ablate.data.config import DataConfig
from sla_ablate.data.shards import TokenShards, prepare
from sla_ablate.runs import ledger
from sla_ablate.text import telling

os.environ.pop("COLUMNS", None)  # which pytest's own processes set: what is shown is as wide as it need be

# Examples may take as long as they like: how long depends on what else the machine does.
hypothesis.settings.register_profile("suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("suite")

telling._PATIENCE = 60.0  # lest a slow machine adds a line to what a test compares

HANDLERS = {
    number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
}
STUB = Path(__file__).parent / "stub"
ORACLES = sorted((Path(__file__).parent / "fixtures").glob("*.npz"))


def pytest_collection_modifyitems(items):
    """Files with long tests first, so that all workers end together; a worker has whole files, for their fixtures."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(autouse=True)
def signal_handlers():
    """A run that is carried out in this process leaves its handlers, which would end it at the next test's signal."""
    yield
    for number, handler in HANDLERS.items():
        signal.signal(number, handler)


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


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """Runs a command in this process and an empty folder; for what ends before a run starts."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            commands.main(arguments)
        output = capsys.readouterr()
        return SimpleNamespace(returncode=end.value.code, stdout=output.out, stderr=output.err)

    return run


@pytest.fixture
def sla(tmp_path, small_corpus):
    """Starts `sla-ablate train` or another command on two by two stub runs of sweep `s`."""
    overrides = [
        "-m", "pattern=baseline,sla_near", "seed=0,1", "sweep=s", "model.block_size=16", "data.tokenizer=bytes",
        f"data.path={small_corpus}", f"data.cache={small_corpus.parent / 'cache'}",
    ]  # fmt: skip

    def start(*arguments, code="done()", **environment):
        command = [arguments[0], *(overrides if arguments[0] == "train" else []), *arguments[1:]]
        return subprocess.Popen(
            [sys.executable, "-m", "sla_ablate", *command], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": str(STUB), "SLA_STUB": code, **environment},
            start_new_session=True,
        )  # fmt: skip

    def run(*arguments, **options):
        process = start(*arguments, **options)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def interrupt(process, when_up):
        """SIGINT to a whole command, when so many of its runs have touched `up`; returns its output."""
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("runs/s/*/up"))) < when_up:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=30)
        return output

    run.overrides = overrides
    run.start = start
    run.interrupt = interrupt
    run.cells = lambda: ledger.cells(tmp_path / "runs" / "s")
    run.states = lambda: [(cell.state, cell.attempt) for cell in run.cells()]
    return run
