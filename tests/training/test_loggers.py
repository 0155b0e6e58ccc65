"""TensorBoard, W&B offline and MLflow, read back with their own formats and compared with metrics.jsonl."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow_server import Server
from test_resume import FORKSERVER

from sla_ablate.config import extras
from sla_ablate.config.extras import check_logger
from sla_ablate.config.schema import LOGGERS, LoggerConfig, PatternConfig, RunConfig
from sla_ablate.errors import InputError
from sla_ablate.processes.signals import INTERRUPTED
from sla_ablate.runs import ledger
from sla_ablate.runs.identity import identify, run_folder
from sla_ablate.runs.record import read_record, write_record
from sla_ablate.training import loggers
from sla_ablate.training.callbacks.metrics import Metrics
from sla_ablate.training.loggers import UNSENT, hyperparameters, opened

LOGGED = LOGGERS[1:]
TINY = [
    "model.n_layer=2", "model.n_head=2", "model.n_embd=16", "model.block_size=16", "data.tokenizer=bytes",
    "optim.steps=150", "optim.batch_size=2", "optim.warmup_steps=1", "trainer.log_every=10",
    "trainer.validate_every=70", "trainer.checkpoint_minutes=0",
]  # fmt: skip

Points = dict[str, list[tuple[int, float]]]
"""Steps and values of every metric."""


def metrics(run: Path) -> Points:
    points: Points = {}
    for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        step = line.pop("step")
        for name, value in line.items():
            if value is None:
                continue
            points.setdefault(name, []).append((step, value))
    return points


def told(logger: str, run: Path) -> tuple[Points, dict[str, str], str | None]:
    """What a logger has of a run: points, hyper-parameters as text, and how it ended where the logger keeps that."""
    return {"csv": _csv, "tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}[logger](run)


def _csv(run: Path):
    table = pd.read_csv(run / "csv" / "metrics.csv").set_index("step")
    points = {name: list(column.dropna().items()) for name, column in table.items()}
    values = yaml.safe_load((run / "csv" / "hparams.yaml").read_text())
    return points, {name: str(value) for name, value in values.items()}, None


def _tensorboard(run: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    (_,) = (run / "tensorboard").glob("events.*")
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    points = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    start = HParamsPluginData.FromString(
        events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    ).session_start_info
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    return points, {name: str(value) for name, value in values.items()}, None


def _wandb(run: Path):
    (path,) = (run / "wandb").glob("offline-run-*/*.wandb")
    points: Points = {}
    values, exits = {}, []
    for record in _wandb_records(path):
        kind = record.WhichOneof("record_type")
        items = {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in record.history.item}
        for name in items.keys() - {"_step", "_timestamp", "_runtime", "trainer/global_step"}:
            points.setdefault(name, []).append((items["trainer/global_step"], items[name]))
        changes = record.config if kind == "config" else record.run.config
        values |= {i.key or i.nested_key[0]: json.loads(i.value_json) for i in changes.update}
        if kind == "run":
            assert (record.run.display_name, record.run.project) == (run.name, "sla-ablate")
        if kind in ("exit", "preempting"):
            exits.append(kind if kind == "preempting" else str(record.exit.exit_code))
    values.pop("_wandb", None)
    return points, {name: str(value) for name, value in values.items()}, " ".join(exits)


def _wandb_records(path: Path):
    """The records of a .wandb file: after seven bytes a LevelDB log, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, or the last part
            yield Record.FromString(whole)
            whole = b""


def _mlflow(run: Path):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{run.parent}/mlflow.db")
    experiment = client.get_experiment_by_name("sla-ablate")
    named = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{run.name}'")
    (found,) = named
    assert found.data.tags["sweep"] == run.parent.name
    history = {name: client.get_metric_history(found.info.run_id, name) for name in found.data.metrics}
    points = {name: sorted((metric.step, metric.value) for metric in each) for name, each in history.items()}
    return points, found.data.params, found.info.status


ENDINGS = {
    **dict.fromkeys(("csv", "tensorboard"), dict.fromkeys(("done", "interrupted", "failed"))),
    "wandb": {"done": "0", "interrupted": "preempting 1", "failed": "1"},
    "mlflow": {"done": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"},
}


def rounded(points: Points) -> Points:
    """TensorBoard keeps float32."""
    return {name: [(step, float(np.float32(value))) for step, value in each] for name, each in points.items()}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "sweep" / "run"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def config():
    config = RunConfig(pattern=PatternConfig("tables", key_source=[[0, 0], [0, 1]]), sweep="sweep")
    config.logger = LoggerConfig(mode="offline")
    return config


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory):
    """MLflow's database with its tables, which take seconds to make; to be copied."""
    import mlflow

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    mlflow.set_experiment("sla-ablate")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("logger", LOGGED)
def test_attempts_at_a_run_are_one_run_of_the_logger(logger, run, config, monkeypatch, request):
    if logger == "mlflow":
        shutil.copy(request.getfixturevalue("mlflow_store"), run.parent)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = run / "metrics.jsonl"
    with opened(config, run, print) as log:  # the first attempt has no logger
        assert log is None
        metrics_of_run = Metrics(path, log)
        metrics_of_run.append(step=2, loss=5.25)

    config.logger.name = logger
    state = metrics_of_run.state_dict()
    with pytest.raises(SystemExit), opened(config, run, print) as log:
        metrics_of_run = Metrics(path, log)
        metrics_of_run.load_state_dict(state)
        metrics_of_run.append(step=4, loss=4.1)
        state = metrics_of_run.state_dict()
        metrics_of_run.append(step=6, loss=3.7)  # after the checkpoint
        raise SystemExit(INTERRUPTED)
    points, values, ending = told(logger, run)
    assert rounded(points) == rounded(metrics(run)) == rounded({"loss": [(2, 5.25), (4, 4.1), (6, 3.7)]})
    assert ending == ENDINGS[logger]["interrupted"]
    expected = {
        "seed": "0", "sweep": "sweep", "optim.betas": "[0.9, 0.95]", "optim.lr": "0.003",
        "pattern.key_source": "[[0, 0], [0, 1]]", "pattern.distance": "null", "data.tokenizer": "bpe",
    }  # fmt: skip
    assert {name: values[name].removesuffix(".0") for name in expected} == expected
    assert values.keys() == hyperparameters(config).keys()

    config.trainer.workers = 1  # does not change the result, so a later attempt may have it
    with pytest.raises(ZeroDivisionError), opened(config, run, print) as log:
        metrics_of_run = Metrics(path, log)
        metrics_of_run.load_state_dict(state)
        metrics_of_run.append(step=6, loss=3.7)
        metrics_of_run.append(step=8, loss=3.5, validation_loss=3.6, validation_perplexity=math.inf)
        raise ZeroDivisionError
    points, _, ending = told(logger, run)
    assert rounded(points) == rounded(metrics(run))
    assert points.keys() == {"loss", "validation_loss"}
    assert ending == ENDINGS[logger]["failed"]


@pytest.mark.slow
def test_several_loggers_are_told_the_same(run, config):
    config.logger = LoggerConfig(
        "csv,tensorboard,wandb", mode="offline", entity="team", group="paper", tags=["a", "b"], notes="as in §3"
    )
    with opened(config, run, print) as log:
        Metrics(run / "metrics.jsonl", log).append(step=2, loss=5.25)
    for logger in config.logger.names:
        assert rounded(told(logger, run)[0]) == {"loss": [(2, 5.25)]}
    (path,) = (run / "wandb").glob("offline-run-*/*.wandb")
    (sent,) = {
        (r.entity, r.run_group, tuple(r.tags), r.notes) for each in _wandb_records(path) if (r := each.run).run_id
    }
    assert sent == ("team", "paper", ("a", "b"), "as in §3")
    assert not (run / UNSENT).exists()


@pytest.mark.slow
def test_a_run_that_mlflow_no_longer_has_begins_anew(run, config, mlflow_store):
    from mlflow.tracking import MlflowClient

    shutil.copy(mlflow_store, run.parent)
    config.logger.name = "mlflow"
    config.logger.tracking_uri = f"sqlite:///{run.parent}/mlflow.db"
    with opened(config, run, print) as log:
        Metrics(run / "metrics.jsonl", log).append(step=2, loss=5.0)
    MlflowClient(config.logger.tracking_uri).delete_run((run / "mlflow.id").read_text())
    with opened(config, run, print) as log:
        Metrics(run / "metrics.jsonl", log).load_state_dict({"bytes": (run / "metrics.jsonl").stat().st_size})
    assert told("mlflow", run)[0] == {"loss": [(2, 5.0)]}


def log_one_line(run):
    """In a process of its own."""
    with opened(RunConfig(logger=LoggerConfig("mlflow"), sweep="sweep"), run, print) as log:
        log.log(1, loss=2.0)


@pytest.mark.slow
def test_runs_that_start_at_once_share_a_new_mlflow_store(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("MLFLOW")]:
        monkeypatch.delenv(name)
    runs = [tmp_path / "sweep" / name for name in ("a", "b")]
    for run in runs:
        run.mkdir(parents=True)
    processes = [FORKSERVER.Process(target=log_one_line, args=(run,)) for run in runs]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    for run in runs:
        assert (told("mlflow", run)[0], told("mlflow", run)[2]) == ({"loss": [(1, 2.0)]}, "FINISHED")


@pytest.fixture
def server(monkeypatch):
    """A server of MLflow's that has just been started; attempts to reach it follow each other at once."""
    for name in [name for name in os.environ if name.startswith("MLFLOW")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setattr(loggers, "_BETWEEN_TRIES", 0.05)
    server = Server()
    server.start()
    yield server
    server.hangs.clear()
    server.stop()


def at(server) -> RunConfig:
    return RunConfig(logger=LoggerConfig("mlflow", tracking_uri=server.uri), sweep="sweep")


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_that_goes_away_is_told_what_it_missed_when_it_is_back(run, server):
    said = []
    with opened(at(server), run, said.append) as log:
        log.log(1, loss=5.0, lr=None)
        until(lambda: len(server.points) == 1)
        server.stop()
        log.log(2, loss=4.0)
        log.log(2, validation_loss=4.5)
        until(lambda: said)
        server.start()
        log.log(3, loss=3.0)
    assert server.points == [("loss", 1, 5.0), ("loss", 2, 4.0), ("validation_loss", 2, 4.5), ("loss", 3, 3.0)]
    assert server.status == "FINISHED"
    assert server.params.keys() == hyperparameters(at(server)).keys()
    assert len(said) == 2, said
    assert said[0].startswith("mlflow cannot be told, which stops nothing (metrics.jsonl has all): ")
    assert said[1] == "mlflow is back, and is told what it missed"
    assert not (run / UNSENT).exists()


def test_what_an_unreachable_server_missed_is_sent_by_a_command(here, tmp_path, server):
    server.stop()
    config = at(server)
    config.output = str(tmp_path)
    ledger.enter(config, "digest")
    run = run_folder(config, identify(config, "digest"))
    said = []
    with opened(config, run, said.append) as log:
        log_file = Metrics(run / "metrics.jsonl", log)
        log_file.append(step=1, loss=5.0)
        log_file.append(step=2, loss=4.0)
    assert said[-1] == f"mlflow was not told everything; later: sla-ablate send --trust {run.parent}"
    write_record(run, read_record(run) | {"state": "failed"})

    asked = server.requests
    done = here("send", str(run.parent))
    assert (done.returncode, server.requests) == (2, asked)
    assert f"config.yaml asks for logger=mlflow at {config.logger.tracking_uri}; if you trust it" in done.stderr
    done = here("send", "--trust", str(run.parent))
    assert (done.returncode, done.stderr) == (1, "")
    assert "mlflow cannot be told" in done.stdout
    server.start()
    done = here("send", "--trust", str(run.parent))
    assert done.returncode == 0, done.stdout
    assert f"{run.name}  mlflow has everything" in done.stdout
    assert (server.points, server.status) == ([("loss", 1, 5.0), ("loss", 2, 4.0)], "FAILED")
    asked = server.requests
    assert here("send", str(run.parent)).stdout == "0 run(s) with something to send\n"
    assert server.requests == asked


def test_a_server_that_hangs_keeps_nobody_waiting(run, server, monkeypatch):
    """This test ends, and long before the server would answer."""
    monkeypatch.setattr(loggers, "_TO_OPEN", 0.1)
    monkeypatch.setattr(loggers, "_TO_CLOSE", {"FINISHED": 0.1})
    server.hangs.set()
    said = []
    with opened(at(server), run, said.append) as log:
        log.log(1, loss=5.0)
    assert server.points == []
    assert [line.partition(",")[0] for line in said[:1]] == ["mlflow does not answer"]
    assert said[-1].startswith("mlflow was not told everything")
    assert (run / UNSENT).exists()


class Sweep:
    """`sla-ablate train` in a folder, with two seeds."""

    def __init__(self, folder: Path, corpus: Path) -> None:
        self.folder = folder
        self.data = [f"data.path={corpus}", f"data.cache={corpus.parent / 'cache'}"]

    def start(self, *overrides: str, **environment: str) -> subprocess.Popen:
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "MLFLOW"))}
        return subprocess.Popen(
            [sys.executable, "-m", "sla_ablate", "train", *self.data, *TINY, *overrides],
            cwd=self.folder, env=keep | {"HOME": str(self.folder / "home")} | environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def runs(self, sweep: str) -> list[Path]:
        return sorted(path.parent for path in (self.folder / "runs" / sweep).glob("*/record.json"))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, small_corpus):
    sweep = Sweep(tmp_path_factory.mktemp("sweep"), small_corpus)
    process = sweep.start("-m", "seed=0,1", "sweep=none")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return sweep


@pytest.mark.slow
@pytest.mark.parametrize("logger", LOGGED)
def test_a_sweep_that_is_interrupted_tells_a_logger_what_it_writes(sweep, logger):
    command = ["-m", "seed=0,1", f"logger={logger}", "logger.mode=offline", f"sweep={logger}"]
    process = sweep.start(*command)
    while not any(run.joinpath("metrics.jsonl").exists() for run in sweep.runs(logger)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 130
    interrupted, waiting = sweep.runs(logger)
    assert told(logger, interrupted)[2] == ENDINGS[logger]["interrupted"]
    assert not (waiting / "run.log").exists()

    process = sweep.start(*command)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "goes on from step" in (interrupted / "run.log").read_text()
    for run, undisturbed in zip(sweep.runs(logger), sweep.runs("none"), strict=True):
        points, _, ending = told(logger, run)
        assert rounded(points) == rounded(metrics(run))
        assert ending == ENDINGS[logger]["done"]
        # The result is that of a run without a logger.
        with_logger, without = metrics(run), metrics(undisturbed)
        assert with_logger.pop("tokens_per_second") != without.pop("tokens_per_second")
        assert with_logger == without
        *_, (last, _) = without["validation_loss"]
        assert last == 150
        results = json.loads((run / "results.json").read_text())["validation"]
        nll, tokens, size = (sum(results[name]) for name in ("nll", "tokens", "bytes"))
        for name, value in {"perplexity": np.exp(nll / tokens), "bits_per_byte": np.log2(np.e) * nll / size}.items():
            assert points[f"validation_{name}"][-1] == (150, pytest.approx(value, rel=1e-6))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["logger=[csv,wandbb]"], "logger 'wandbb' is unknown; .*did you mean 'wandb'"),
        (["logger=wandbb"], "logger 'wandbb' is unknown; .*did you mean 'wandb'"),
        (["logger.name=mlfow"], "logger.name 'mlfow' is unknown; .*did you mean 'mlflow'"),
        (["logger=wandb", "logger.mode=of"], "logger.mode 'of' is unknown; choose from online, offline"),
    ],
)
def test_an_unknown_logger_is_one_line_before_anything_starts(here, tmp_path, overrides, message):
    done = here("train", *overrides)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert re.search(message, done.stderr), done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "logger=wandb finds no API key; run `wandb login`, set WANDB_API_KEY, or choose "),
        ({"WANDB_API_KEY": "short"}, "logger=wandb: WANDB_API_KEY invalid: "),
    ],
)
def test_wandb_without_a_key_is_one_line_before_anything_starts(tmp_path, small_corpus, environment, message):
    process = Sweep(tmp_path, small_corpus).start("logger=wandb", **environment)
    output, error = process.communicate()
    assert (process.returncode, error.count("\n")) == (2, 1), error
    assert message in error
    assert output == "" or "prepared" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("logger", "missing"),
    [("tensorboard", "tensorboard"), ("wandb", "wandb"), ("mlflow", "mlflow"), ("mlflow", "alembic")],
)
def test_a_logger_that_is_not_installed_is_one_line(logger, missing, monkeypatch):
    config = LoggerConfig(logger, mode="offline")
    check_logger(config)
    monkeypatch.setitem(sys.modules, missing, None)  # as if it were not there
    with pytest.raises(InputError) as told:
        check_logger(config)
    assert str(told.value) == f"logger={logger} needs {missing}; run: pip install 'sla-ablate[{logger}]'"


def test_a_folder_of_its_name_is_no_logger(tmp_path, monkeypatch):
    """W&B leaves one where it is used without a folder; `python -m sla_ablate` looks there for modules first."""
    (tmp_path / "somelogger").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    monkeypatch.setitem(extras._NEEDS, "wandb", ("somelogger",))
    with pytest.raises(InputError, match="needs somelogger"):
        check_logger(LoggerConfig("wandb", mode="offline"))
