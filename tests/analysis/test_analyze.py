"""The analysis of a sweep: values against `measure_heads` and changed models; what is measured again; faults."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from analysis import analyze as module
from analysis import measure_heads, worker
from analysis.analyze import Effort, analyze, analyze_run
from analysis.diversity.roles import skip_heads
from analysis.figures import write_figures
from analysis.perplexity import Totals
from analysis.report import write_report
from analysis.tidy import tidy
from sla_ablate import GPT
from sla_ablate import commands as cli
from sla_ablate.config.schema import ModelConfig, PatternConfig, RunConfig
from sla_ablate.data.config import DataConfig
from sla_ablate.data.shards import prepare
from sla_ablate.errors import InputError
from sla_ablate.files import alone_in
from sla_ablate.runs import ledger
from sla_ablate.runs.identity import identify, run_folder
from sla_ablate.runs.record import read_record, write_record
from sla_ablate.runs.trained import CHECKPOINT, data_of
from sla_ablate.training.evaluation import document_nll

EFFORT = Effort(tokens=200, query_rows=8)
SCORED = 4000
IDENTITY = {"run": "run_id", "seed": "seed", "setting": "setting", "pairing": "pairing"}


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_corpus, record) -> Path:
    """A sweep of three done runs, with weights large enough to matter, and one that waits."""
    output = tmp_path_factory.mktemp("runs")
    data = DataConfig(path=str(small_corpus), tokenizer="bytes", cache=str(small_corpus.parent / "cache"))
    shards = prepare(data, log=lambda line: None)
    model = ModelConfig(n_layer=3, n_head=3, n_embd=12, block_size=40)
    for pattern, seed in (("baseline", 0), ("sla", 0), ("sla", 1), ("sla", 2)):
        config = RunConfig(model, PatternConfig(pattern, distance=1, heads=2), data, seed=seed, output=str(output))
        config.evaluation.tokens = SCORED
        ledger.enter(config, shards.digest)
        if seed == 2:
            continue
        run = run_folder(config, identify(config, shards.digest))
        results = {name: record()[name] for name in ("environment", "cost", "results")}
        write_record(run, {**read_record(run), **results, "state": "done"})
        gpt = GPT(config.gpt_config(shards.tokenizer.vocab_size), config.skip_pattern())
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in gpt.parameters():
                parameter.normal_(std=0.4, generator=generator)
        gpt.save(run / CHECKPOINT)
    return output / "default"


@pytest.fixture
def sweep(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "runs" / "sweep"))


@pytest.fixture
def measured(monkeypatch) -> list[str]:
    """Names of the runs that are measured, in this process."""
    names = []

    def each(module, preloaded, arguments, jobs, began):
        for argument in arguments:
            worker.main([argument])
            names.append(Path(json.loads(argument)[0]).name)
            yield argument, None, []

    monkeypatch.setattr(module, "call_each", each)
    return names


def run_of(sweep: Path, slug: str) -> Path:
    (run,) = sweep.glob(f"{slug}-*")
    return run


def sample(run: Path, windows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets of evenly spaced windows."""
    data = json.loads((run / "record.json").read_text())["config"]["data"]
    tokens = prepare(DataConfig(**data)).validation
    last = len(tokens) - length - 1
    rows = [tokens[i * last // (windows - 1) :][: length + 1].astype(np.int64) for i in range(windows)]
    sample = torch.from_numpy(np.stack(rows))
    return sample[:, :-1], sample[:, 1:]


def array_name(row) -> str:
    """The name under which `measure_heads` has a row's value."""
    name, error, _ = row.metric.partition("_error")
    role = f"_{row.role}" if pd.isna(row.head) and not pd.isna(row.role) else ""
    return f"{name}{role}{error}{'' if pd.isna(row.position) else '_by_position'}"


def test_overlapping_windows_are_scored_where_a_stride_is_given(sweep):
    run = run_of(sweep, "sla-d1-h2-s1")
    analyze_run(run, Effort(tokens=80, query_rows=8, stride=7))
    table = pd.read_parquet(run / "analysis.parquet").set_index("metric")
    totals = Totals.of(document_nll(GPT.load(run / CHECKPOINT).eval(), data_of(run), stride=7, tokens=SCORED))
    for rate in ("nats_per_token", "perplexity", "word_perplexity", "bits_per_byte"):
        row = table.loc[f"strided_{rate}"]
        assert row["value"] == getattr(totals, rate)
        assert row[["layer", "head", "position", "role"]].isna().all()
    with pytest.raises(InputError, match="stride 41 is out of range; choose 1 to 40"):
        analyze_run(run, Effort(tokens=80, query_rows=8, stride=41))


def test_every_value_of_measure_heads_is_in_the_table_once(sweep):
    run = run_of(sweep, "sla-d1-h2-s1")
    analyze_run(run, EFFORT)
    table = pd.read_parquet(run / "analysis.parquet")
    model = GPT.load(run / CHECKPOINT).eval()
    skip = skip_heads(model.pattern)
    arrays = measure_heads(model, sample(run, windows=5, length=40)[0], n_min=16, query_rows=8)
    del arrays["is_skip"]

    pairs = {(False, False): "own_own", (False, True): "own_skip", (True, False): "own_skip", (True, True): "skip_skip"}
    seen = {name: np.full_like(array, np.nan) for name, array in arrays.items()}
    for row in table[~table["metric"].isin(["importance", "knock_out", "nll", "rerouted"])].itertuples():
        index = () if pd.isna(row.position) else (int(row.position).bit_length() - 1,)
        here, there = (row.layer, row.head), (row.other_layer, row.other_head)
        if pd.isna(row.head):
            index += (row.layer,)
        elif pd.isna(row.other_head):
            index += here
            assert row.role == ("skip" if skip[here] else "own")
        else:
            index += (row.layer, row.other_layer, row.head) if row.metric == "map_similarity" else (*here, there[1])
            assert here[row.metric == "map_similarity"] == there[row.metric == "map_similarity"]
            assert pd.isna(row.role) if here == there else row.role == pairs[bool(skip[here]), bool(skip[there])]
        assert np.isnan(seen[array_name(row)][index]), f"{row} comes twice"
        seen[array_name(row)][index] = row.value
    for name, array in arrays.items():
        np.testing.assert_allclose(seen[name], array, rtol=1e-6, atol=1e-12, err_msg=name)


def test_a_value_of_the_whole_model_by_position():
    table = tidy({"nll_by_position": np.array([5.0, 4.0, np.nan, 3.0])}, np.zeros((1, 1), dtype=bool))
    assert list(table["position"]) == [1, 2, 8]
    assert list(table["value"]) == [5, 4, 3]
    assert set(table["metric"]) == {"nll"}
    assert table[["layer", "head", "role"]].isna().all(axis=None)


def test_knock_out_of_heads_and_of_roles(sweep):
    run = run_of(sweep, "sla-d1-h2-s0")
    analyze_run(run, EFFORT)
    table = pd.read_parquet(run / "analysis.parquet")
    model = GPT.load(run / CHECKPOINT).eval()
    tokens, targets = sample(run, windows=5, length=40)

    def change(layer, *heads):
        with torch.no_grad():
            base = model(tokens, targets).item()
            weight = model.h[layer].attn.c_proj.weight
            kept = weight.clone()
            for head in heads:
                weight[:, 4 * head : 4 * head + 4] = 0
            without = model(tokens, targets).item()
            weight.copy_(kept)
        return without - base

    values = table[table["metric"] == "knock_out"].set_index(["layer", "head", "role"])["value"]
    assert values[1, 0, "skip"] == pytest.approx(change(1, 0), abs=1e-5)
    assert values[1, 2, "own"] == pytest.approx(change(1, 2), abs=1e-5)
    assert values[2, pd.NA, "skip"] == pytest.approx(change(2, 0, 1), abs=1e-5)
    assert values[0, pd.NA, "own"] == pytest.approx(change(0, 0, 1, 2), abs=1e-5)
    assert len(values) == 3 * 3 + 3 + 2
    rerouted = table[table["metric"] == "rerouted"]
    assert set(rerouted["role"]) == {"skip"}
    assert len(rerouted) == 2 * 2 + 2


def test_tables_of_a_sweep(sweep, measured, capsys):
    assert analyze(sweep, EFFORT, jobs=1)
    assert (
        "3 run(s), 0 already analyzed\nleft out: 1 waiting (SLA, distance 1, 2 of 3 heads)\n" in capsys.readouterr().out
    )
    heads = pd.read_parquet(sweep / "analysis" / "heads.parquet")
    runs = pd.read_parquet(sweep / "analysis" / "runs.parquet")
    records = {run: read_record(sweep / run) for run in measured}
    assert list(runs["run_id"]) == list(heads["run"].unique()) == measured == sorted(records)
    for run, rows in heads.groupby("run"):
        assert list(rows["pattern"].unique()) == [records[run]["pattern"]["label"]]
        for column, name in IDENTITY.items():
            assert list(rows[column].unique()) == [records[run][name]]
        pd.testing.assert_frame_equal(
            rows.reset_index(drop=True), pd.read_parquet(sweep / run / "analysis.parquet").reset_index(drop=True)
        )
    numbers = ["layer", "head", "other_layer", "other_head", "position"]
    assert {str(heads[name].dtype) for name in numbers} == {"Int64"}

    assert list(runs["config.model.n_layer"]) == [3, 3, 3]
    assert list(runs["config.pattern.name"]) == ["baseline", "sla", "sla"]
    assert "config.optim.betas" not in runs
    assert list(runs["config.pattern.distance"].fillna(0)) == [0, 1, 1]  # of no use to the baseline
    first = runs.iloc[0]
    read = {name.removeprefix("analysis."): first[name] for name in runs if name.startswith("analysis.")}
    assert re.fullmatch("[0-9a-f]{12}", read.pop("version"))
    assert pd.isna(read.pop("stride"))
    assert read == {
        "tokens": 200, "knock_out_tokens": 200, "context_length": 40, "n_min": 16, "query_rows": 8,
    }  # fmt: skip


def test_what_was_swept_is_a_column_of_both_tables(sweep, measured):
    analyze(sweep, EFFORT, jobs=1)
    records = {sweep / run: read_record(sweep / run) for run in measured}
    baseline, _, last = records.values()
    baseline["config"]["pattern"]["distance"] = last["config"]["pattern"]["distance"] = 2
    module._write_tables(sweep / "analysis", records, list(records.values()))
    heads, runs = (pd.read_parquet(sweep / "analysis" / f"{name}.parquet") for name in ("heads", "runs"))
    expected = dict(zip(measured, (0, 1, 2), strict=True))
    assert heads.groupby("run")["pattern.distance"].first().fillna(0).to_dict() == expected
    assert runs.set_index("run_id")["pattern.distance"].fillna(0).to_dict() == expected


def test_the_examples_of_the_readme(sweep, measured):
    analyze(sweep, EFFORT, jobs=1)
    text = (Path(module.__file__).parent / "README.md").read_text()
    code, _, worth = re.findall("```python\n(.*?)```", text, re.S)  # the one between: test_sweep.py
    names, examples = {}, []
    for statement in ast.parse(code.replace("runs/demo", str(sweep))).body:
        if isinstance(statement, ast.Expr):
            examples.append(eval(ast.unparse(statement), names))
        else:
            exec(ast.unparse(statement), names)
    assert len(examples) == 5
    assert all(len(example) and example.notna().all(axis=None) for example in examples)
    lengths = [(tokens, seed) for tokens in (2.5e6, 5e6, 10e6, 20e6) for seed in range(3)]
    losses = [
        {"pattern": pattern, "tokens": tokens, "parameters": 1e6, "seed": seed, "loss": loss + 0.01 * seed}
        for pattern, shift in (("baseline", 0.0), ("SLA", 0.02))
        for tokens, seed in lengths
        for loss in [3 + 400 * tokens**-0.4 - shift]
    ]
    exec(worth.replace("baselines.gain(", "gain = baselines.gain("), names := {"runs": pd.DataFrame(losses)})
    assert names["gain"].factor > 1


def test_only_what_changed_is_measured_again(sweep, measured, monkeypatch, capsys):
    analyze(sweep, EFFORT, jobs=1)
    before = {path: path.stat().st_mtime_ns for path in sweep.glob("*/analysis.parquet")}
    table = pd.read_parquet(sweep / "analysis" / "heads.parquet")
    measured.clear()

    assert analyze(sweep, EFFORT, jobs=1)
    assert "3 run(s), 3 already analyzed" in capsys.readouterr().out
    assert measured == []
    assert before == {path: path.stat().st_mtime_ns for path in before}
    pd.testing.assert_frame_equal(pd.read_parquet(sweep / "analysis" / "heads.parquet"), table)

    changed = run_of(sweep, "sla-d1-h2-s0")
    model = GPT.load(changed / CHECKPOINT)
    with torch.no_grad():
        model.h[0].attn.c_attn.weight[0, 0] += 1
    model.save(changed / CHECKPOINT)
    analyze(sweep, EFFORT, jobs=1)
    assert measured == [changed.name]
    assert not pd.read_parquet(sweep / "analysis" / "heads.parquet").equals(table)

    analyze(sweep, Effort(200, 10), jobs=1)
    assert len(measured) == 1 + 3
    monkeypatch.setattr(module, "code_version", lambda: "other code")
    analyze(sweep, Effort(200, 10), jobs=1)
    assert len(measured) == 1 + 3 + 3


def test_the_same_run_under_another_name_is_measured_once_and_a_diverged_one_never(sweep, measured, capsys):
    first, second = run_of(sweep, "sla-d1-h2-s0"), sweep / "tables-s0"
    shutil.copytree(first, second)
    record = read_record(second)
    write_record(second, record | {"run_id": second.name, "pattern": record["pattern"] | {"label": "tables x"}})
    diverged = run_of(sweep, "sla-d1-h2-s1")
    write_record(diverged, read_record(diverged) | {"state": "diverged"})
    assert analyze(sweep, EFFORT, jobs=1)
    assert sorted(measured) == sorted([run_of(sweep, "baseline-s0").name, first.name])
    told = capsys.readouterr().out
    label = f"{record['pattern']['label']}, also tables x"
    assert f"left out: 1 diverged ({label}), 1 waiting ({label})\n" in told
    assert "the same runs as others, under another name, and not counted twice: tables-s0\n" in told
    for name in ("heads", "runs"):
        assert set(pd.read_parquet(sweep / "analysis" / f"{name}.parquet")["pattern"]) == {"baseline", label}


@pytest.mark.parametrize("source", module.SOURCES)
def test_the_code_that_values_depend_on_is_there(source):
    assert list(Path(module.__file__).parents[1].glob(source))


def test_the_code_version_is_that_of_the_code(monkeypatch):
    before = module.code_version()
    read = Path.read_bytes
    changed = Path(module.__file__).parent / "diversity" / "metrics" / "entropy.py"
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"#" if path == changed else b""))
    assert module.code_version.__wrapped__() != before


def test_other_data_than_the_run_was_trained_on_are_refused(sweep):
    run = run_of(sweep, "baseline-s0")
    record = read_record(run)
    write_record(run, {**record, "setting": "another"})
    with pytest.raises(InputError, match="names other data"):
        analyze_run(run, EFFORT)
    assert not (run / "analysis.parquet").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tokens", "0"], "argument --tokens: 0 is not possible; choose 1 to 1000000000000"),
        (["--query-rows", "7"], "query_rows=7 is not possible; choose an even number, 2 or more"),
        (["--jobs", "0"], "argument --jobs: 0 is not possible; choose 1 to 1024"),
        ([], "no run of .* is done, so there is nothing to analyze: 1 waiting"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(sweep, options, message, capsys):
    for run in sweep.iterdir():
        if not run.name.startswith("sla-d1-h2-s2"):
            shutil.rmtree(run)
    with pytest.raises(SystemExit) as end:
        cli.main(["analyze", str(sweep), *options])
    assert end.value.code == 2
    assert re.fullmatch(f"sla-ablate: {message}.*\n", capsys.readouterr().err)
    assert not (sweep / "analysis").exists()


def test_a_stride_beyond_the_shortest_context_is_refused_before_anything_is_measured(sweep, measured, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["analyze", str(sweep), "--stride", "41"])
    assert end.value.code == 2
    message = r"--stride 41 is longer than the context of \S*/baseline-s0-\w{8}; choose 1 to 40 tokens"
    assert re.fullmatch(f"sla-ablate: {message}\n", capsys.readouterr().err)
    assert measured == []


def command(sweep: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "sla_ablate", "analyze", str(sweep), "--tokens", "200", "--query-rows", "8", *options]


@pytest.mark.slow
def test_killed_then_with_a_broken_run_then_whole(sweep, measured):
    """Real processes: after a kill -9 and a failure the tables are those of an undisturbed analysis."""
    baseline, broken = run_of(sweep, "baseline-s0"), run_of(sweep, "sla-d1-h2-s0")
    weights = (broken / CHECKPOINT / "model.safetensors").read_bytes()
    (broken / CHECKPOINT / "model.safetensors").write_bytes(weights[:-100])

    killed = subprocess.Popen(command(sweep, "--jobs", "1"), stdout=subprocess.DEVNULL)
    while not (baseline / "analysis.json").exists():
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    first = (baseline / "analysis.parquet").stat().st_mtime_ns

    done = subprocess.run(command(sweep), capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(r".*/analysis; next: sla-ablate figure all .*\n", done.stderr)
    assert re.search(rf"^{broken.name}  failed: .*model.safetensors and config.json .* not belong", done.stdout, re.M)
    assert re.search("^3 run.s., [12] already analyzed", done.stdout)
    runs = pd.read_parquet(sweep / "analysis" / "runs.parquet").set_index("run_id")
    assert runs["analysis.tokens"].isna().to_dict() == {run: run == broken.name for run in runs.index}
    assert len(runs) == 3
    assert broken.name not in set(pd.read_parquet(sweep / "analysis" / "heads.parquet")["run"])

    (broken / CHECKPOINT / "model.safetensors").write_bytes(weights)
    assert analyze(sweep, EFFORT, jobs=1)
    assert measured == [broken.name]
    assert (baseline / "analysis.parquet").stat().st_mtime_ns == first
    assert not list(sweep.rglob("*.tmp"))
    after = pd.read_parquet(sweep / "analysis" / "heads.parquet")
    (baseline / "analysis.parquet").unlink()
    analyze_run(baseline, EFFORT)
    undisturbed = pd.read_parquet(baseline / "analysis.parquet")
    pd.testing.assert_frame_equal(after[after["run"] == baseline.name].reset_index(drop=True), undisturbed)


def test_what_a_run_said_is_shown_and_why_it_failed(sweep, monkeypatch, capsys):
    ended = [
        (None, ["careful"]),
        ("exit code 1: KeyError: 'x'", ["noise", "Traceback (most recent call last):", "KeyError: 'x'"]),
        ("exit code 1: no such thing", ["noise", "no such thing"]),
    ]

    def each(module, preloaded, arguments, jobs, began):
        for argument, (error, lines) in zip(arguments, ended, strict=True):
            if not error:
                worker.main([argument])
            yield argument, error, lines

    monkeypatch.setattr(module, "call_each", each)
    assert not analyze(sweep, EFFORT, jobs=2)
    told = capsys.readouterr()
    assert told.err == "careful\nTraceback (most recent call last):\nKeyError: 'x'\n"
    lines = [line.partition("  ")[2].partition(";")[0] for line in told.out.splitlines() if line.endswith(" left")]
    assert lines == ["analyzed", "failed: exit code 1: KeyError: 'x'", "failed: exit code 1: no such thing"]


@pytest.mark.parametrize("what", ["analysis", "report", "figures"])
def test_of_two_that_write_the_same_one_waits_and_takes_what_the_other_left(sweep, monkeypatch, what):
    act = {
        "analysis": lambda: analyze(sweep, EFFORT, jobs=1),
        "report": lambda: write_report(sweep),
        "figures": lambda: list(write_figures("pattern", sweep)),
    }[what]
    measured, ended = [], []
    monkeypatch.setattr(module, "call_each", lambda _, __, arguments, *others: measured.extend(arguments) or ())
    (sweep / what).mkdir()
    half, others = sweep / what / ".table.md.0a_z9bcd.tmp", sweep / what / ".notes.tmp"
    with alone_in(sweep / what):
        for path in (half, others):
            path.touch()
        second = threading.Thread(target=lambda: ended.append(act()))
        second.start()
        time.sleep(0.2)
        assert half.exists()
        assert second.is_alive()
        if what == "analysis":
            for run in (path.parent for path in sweep.glob("*/record.json")):
                if read_record(run)["state"] == "done":
                    analyze_run(run, EFFORT)
    second.join()
    assert len(ended) == 1
    assert not half.exists()
    assert others.exists()
    assert len([path for path in (sweep / what).iterdir() if path.suffix in (".parquet", ".md", ".svg")]) >= 1
    assert measured == []


@pytest.mark.parametrize("error", [InputError("no such thing"), OSError(2, "No such file", "x")], ids=type)
def test_a_run_that_cannot_be_measured_says_so_in_one_line(monkeypatch, error):
    def refuse(run, effort):
        raise error

    monkeypatch.setattr(worker, "analyze_run", refuse)
    with pytest.raises(SystemExit) as end:
        worker.main([json.dumps(["run", {"tokens": 1, "query_rows": 2}])])
    assert end.value.code == str(error)


def test_an_interrupt_ends_what_is_measured(sweep, tmp_path):
    """The worker is one that stays; the output ends when nobody can write there any more."""
    pids = tmp_path / "pids"
    (tmp_path / "sitecustomize.py").write_text(f"""
import os, pathlib, sys, time, types
def main(arguments):
    pathlib.Path({str(pids)!r}, str(os.getpid())).touch()
    time.sleep(60)
if "sla_ablate.processes.zygote" in sys.orig_argv:
    sys.modules["analysis.worker"] = types.ModuleType("analysis.worker")
    sys.modules["analysis.worker"].main = main
    for name in {module.PRELOADED!r}: sys.modules[name] = types.ModuleType(name)
""")
    pids.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment}
    with subprocess.Popen(command(sweep, "--jobs", "2"), **options) as process:
        deadline = time.monotonic() + 60
        while len(list(pids.iterdir())) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"Traceback" not in errors  # what is waited for may be told there
