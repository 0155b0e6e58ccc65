"""What runs and their analysis left is checked where it is used: no flipped bit, no other file changes a number."""

from __future__ import annotations

import random
import shutil

import pandas as pd
import pytest
from made_up_records import ending

from analysis.analyze import Effort, analyze, analyze_run
from analysis.figures import open_settings, write_figures
from analysis.report import write_report
from analysis.rescore import rescore
from analysis.stored import HEADS, RESULT, about_result, faults, read_result, read_table
from sla_ablate.config.schema import ModelConfig, OptimConfig, PatternConfig, RunConfig, TrainerConfig
from sla_ablate.data.config import DataConfig
from sla_ablate.data.shards import prepare
from sla_ablate.errors import InputError
from sla_ablate.model.gpt import GPT
from sla_ablate.runs import ledger
from sla_ablate.runs.digests import AGAIN, digest
from sla_ablate.runs.identity import identify, run_folder
from sla_ablate.runs.record import CHECKPOINT, read_record, write_record
from sla_ablate.runs.sweep import read_sweep
from sla_ablate.runs.trained import digests_of, load_run, save_model
from sla_ablate.training.evaluation import document_nll
from sla_ablate.training.module import build_model

EFFORT = Effort(tokens=40, query_rows=4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, small_corpus):
    """A sweep of two done runs as an attempt leaves them, but for the training."""
    folder = tmp_path_factory.mktemp("trained")
    data = DataConfig(path=str(small_corpus), tokenizer="bytes", cache=str(small_corpus.parent / "cache"))
    shards = prepare(data, log=lambda line: None)
    for pattern in (PatternConfig(), PatternConfig("sla", distance=1, heads=1)):
        config = RunConfig(
            ModelConfig(n_layer=2, n_head=2, n_embd=8, block_size=16), pattern, data,
            OptimConfig(steps=1, batch_size=1, warmup_steps=0), trainer=TrainerConfig(precision="fp32"),
            output=str(folder), sweep="sweep",
        )  # fmt: skip
        config.evaluation.tokens = 200
        ledger.enter(config, shards.digest)
        run = run_folder(config, identify(config, shards.digest))
        model = build_model(config, 257)
        (run / CHECKPOINT).mkdir()
        save_model(model, shards, run / CHECKPOINT)
        (run / "metrics.jsonl").write_text('{"step": 1, "loss": 5.0}\n')
        end = ending()
        end["cost"]["tokens"] = 16
        end |= {"digests": digests_of(run), "results": {"validation": document_nll(model, shards, tokens=200)}}
        write_record(run, {**read_record(run), **end})
    return folder / "sweep"


@pytest.fixture
def sweep(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "sweep")


@pytest.fixture
def runs(sweep):
    return sorted(path.parent for path in sweep.glob("*/record.json"))


def flip(path, seed=0):
    draw = random.Random(seed)
    contents = bytearray(path.read_bytes())
    contents[draw.randrange(len(contents))] ^= 1 << draw.randrange(8)
    path.write_bytes(contents)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("how", ["flipped", "another's", "removed"])
def test_a_model_is_used_only_as_the_run_left_it(here, runs, name, how):
    run, other = runs
    path = run / CHECKPOINT / name
    load_run(run)
    if how == "flipped":
        flip(path)
    elif how == "removed":
        path.unlink()
    elif name == "tokenizer.json":
        path.write_bytes(path.read_bytes().replace(b"bytes", b"bites"))
    else:
        path.write_bytes((other / CHECKPOINT / name).read_bytes())
        if name == "model.safetensors":  # untrained models of one seed are the same
            flip(path)
    for command in (["generate", str(run)], ["export", str(run), "exported"], ["verify", str(run)]):
        done = here(*command)
        assert done.returncode == 2, command
        assert str(path) in done.stdout + done.stderr
    with pytest.raises(InputError, match=name):
        analyze_run(run, EFFORT)


def test_a_model_alone_proves_that_weights_and_tables_belong_together(tmp_path, runs):
    """That of another pattern has the same shape."""
    one, other = tmp_path / "one", tmp_path / "other"
    for run, folder in zip(runs, (one, other), strict=True):
        model = GPT.load(run / CHECKPOINT)
        if folder == other:
            model.wte.weight.data += 1
        model.save(folder)
    shutil.copy(other / "config.json", one)
    with pytest.raises(InputError, match=r"model\.safetensors and config\.json beside it do not belong together"):
        GPT.load(one)


def test_results_that_were_changed_are_named_and_the_other_run_is_told(sweep, runs):
    path = runs[0] / "results.json"
    text = path.read_text()
    for place in (text.index("nll") + 12, len(text) // 2):
        path.write_text(text[:place] + ("7" if text[place] != "7" else "8") + text[place + 1 :])
        report = write_report(sweep)
        assert report.faults == [f"{path} was changed since the run wrote it; restore it, or {AGAIN}"]
        assert report.files["table.md"].count(b"\n| ") >= 1


def test_a_copy_changes_nothing_in_any_table(sweep, runs, capsys):
    before = write_report(sweep)
    shutil.copytree(runs[0], sweep / f"{runs[0].name}.bak")
    capsys.readouterr()
    assert write_report(sweep) == before
    assert capsys.readouterr().err == (
        f"{sweep / runs[0].name}.bak holds the run {runs[0].name}, a copy that is not counted\n"
    )
    assert len(open_settings(sweep)) == 1


def test_measurements_that_were_changed_are_made_again(runs):
    run = runs[0]
    analyze_run(run, EFFORT)
    whole, kept = read_result(run), (run / RESULT).read_bytes()
    assert about_result(run) is not None
    for seed in range(25):
        (run / RESULT).write_bytes(kept)
        flip(run / RESULT, seed)
        assert about_result(run) is None
        with pytest.raises(InputError, match="is not as analyze wrote it"):
            read_result(run)
    for path in (run / RESULT, run / "analysis.json"):
        (run / RESULT).write_bytes(kept)
        path.write_bytes(path.read_bytes()[:-1])
        assert about_result(run) is None
        analyze_run(run, EFFORT)
        assert read_result(run).equals(whole)
        assert (run / RESULT).read_bytes() == kept


def test_tables_of_a_sweep_that_were_changed_are_not_drawn_from(sweep, runs):
    for run in runs:
        analyze_run(run, EFFORT)
    assert analyze(sweep, EFFORT, jobs=1)  # nothing is left to measure
    assert faults(sweep) == []
    whole = read_table(sweep, HEADS).to_pandas()
    pd.testing.assert_frame_equal(whole, pd.read_parquet(sweep / HEADS))
    flip(sweep / HEADS)
    with pytest.raises(InputError, match=f"{sweep / HEADS} is not as analyze wrote it; run: sla-ablate analyze"):
        read_table(sweep, HEADS)
    assert faults(sweep) == [f"{sweep / HEADS} is not as analyze wrote it; run: sla-ablate analyze"]
    assert write_report(sweep).faults == faults(sweep)
    assert analyze(sweep, EFFORT, jobs=1)
    pd.testing.assert_frame_equal(read_table(sweep, HEADS).to_pandas(), whole)


def test_curves_are_drawn_of_metrics_only(sweep, runs):
    with (runs[0] / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "loss": 1e9}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl was changed since the run wrote it") as error:
        list(write_figures("training", sweep))
    assert str(runs[0]) in str(error.value)
    assert (sweep / "figures" / "training.svg").exists()  # of the other


def test_a_file_is_read_again_only_if_it_is_another(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"a")
    first = digest(tmp_path, "file")
    monkeypatch.setattr("sla_ablate.runs.digests.digest_of", None)
    assert digest(tmp_path, "file") == first
    path.write_bytes(b"bc")
    with pytest.raises(TypeError):
        digest(tmp_path, "file")


def test_verify_checks_everything_and_scores_again(here, sweep, runs):
    done = here("verify", str(sweep), "--runs", "2")
    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    assert [line.split("  ")[1] for line in lines[:2]] == ["whole"] * 2
    assert all(line.endswith("again, to the bit") for line in lines[2:])
    assert len(lines) == 4
    assert here("verify", str(runs[0])).stdout == f"{runs[0].name}  whole\n"

    (record,) = (run.record for run in read_sweep(sweep).runs if run.folder == runs[0])
    validation = record["results"]["validation"]
    pairs = zip(validation["nll"], validation["tokens"], strict=True)
    record["results"]["validation"] = {**validation, "nll": [nll + 0.01 * n for nll, n in pairs]}
    assert rescore(runs[0], record)[0] is False
    write_record(runs[0], record)  # as one would who makes a result up
    done = here("verify", str(sweep), "--runs", "2")
    assert done.returncode == 2
    assert "differs by -1.0e-02, by 1.0e-02 in a document" in done.stdout

    (runs[1] / "metrics.jsonl").unlink()
    (runs[0] / CHECKPOINT / "step-00000001.ckpt").write_bytes(b"x" * 100)
    done = here("verify", str(sweep))
    assert done.returncode == 2
    assert f"{runs[1] / 'metrics.jsonl'} is missing\n" in done.stdout
    assert "step-00000001.ckpt is not whole" in done.stdout
