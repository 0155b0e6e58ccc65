"""Run folders of somebody else: commands stay in the folder that they are given, and show its text as text."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch
import yaml

from analysis.analyze import Effort, analyze, analyze_run
from sla_ablate import GPT
from sla_ablate.config.schema import ModelConfig, PatternConfig, RunConfig
from sla_ablate.data.config import DataConfig
from sla_ablate.data.shards import prepare
from sla_ablate.data.tokenizers import FILE
from sla_ablate.errors import InputError
from sla_ablate.runs import ledger
from sla_ablate.runs.data import data_of_all
from sla_ablate.runs.identity import identify, run_folder
from sla_ablate.runs.record import CHECKPOINT, read_record, write_record

COMMANDS = {
    "status": ["status", "SWEEP"],
    "report": ["report", "SWEEP"],
    "analyze": ["analyze", "SWEEP"],
    "figure": ["figure", "differences", "SWEEP"],
    "retry": ["retry", "SWEEP"],
    "generate": ["generate", "RUN", "a", "--max-new-tokens", "1"],
    "export": ["export", "RUN", "exported"],
}
EFFORT = Effort(tokens=40, query_rows=4)
NASTY = "=a|b <script>x</script> ![i](http://tracker) $\\frac{$ \x1b[31m\u202e \udc80"


@pytest.fixture(scope="module")
def received(tmp_path_factory, small_corpus, record) -> Path:
    """A sweep of two done runs, a pair."""
    folder = tmp_path_factory.mktemp("received")
    data = DataConfig(path=str(small_corpus), tokenizer="bytes", cache=str(small_corpus.parent / "cache"))
    shards = prepare(data, log=lambda line: None)
    model = ModelConfig(n_layer=2, n_head=2, n_embd=8, block_size=16)
    for pattern in (PatternConfig(), PatternConfig("sla", distance=1, heads=1)):
        config = RunConfig(model, pattern, data, output=str(folder), sweep="sweep")
        ledger.enter(config, shards.digest)
        run = run_folder(config, identify(config, shards.digest))
        results = {name: record()[name] for name in ("environment", "cost", "results")}
        write_record(run, {**read_record(run), **results, "state": "done"})
        torch.manual_seed(0)
        GPT(config.gpt_config(257), config.skip_pattern()).save(run / CHECKPOINT)
        shards.tokenizer.save(run / CHECKPOINT / FILE)
        (run / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": 1.0}) + "\n")
        (run / "run.log").touch()
    return folder / "sweep"


@pytest.fixture
def sweep(received, tmp_path) -> Path:
    return Path(shutil.copytree(received, tmp_path / "sweep"))


@pytest.fixture
def command(here, sweep):
    """Runs a command of `COMMANDS` on the sweep, or on its baseline."""

    def run(name, *options):
        places = {"SWEEP": str(sweep), "RUN": str(baseline(sweep))}
        return here(*(places.get(argument, argument) for argument in COMMANDS[name]), *options)

    return run


def baseline(sweep: Path) -> Path:
    (run,) = sweep.glob("baseline-*")
    return run


def alone(sweep: Path) -> None:
    """Leave the baseline alone in the sweep, so that there is nothing else to report."""
    for run in sweep.glob("sla-*"):
        shutil.rmtree(run)


def tree(folder: Path) -> dict[str, bytes | str]:
    """All that lies in a folder: the contents of files, the targets of links."""
    return {
        str(path): str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def change(run: Path, **sections: dict[str, object]) -> None:
    """Change the configuration of a run."""
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    for section, values in sections.items():
        config[section] |= values
    path.write_text(yaml.safe_dump(config))


@pytest.mark.parametrize("name", ["metrics.jsonl", "run.log", ".lock", "record.json", "checkpoints", "checkpoints/a"])
def test_no_link_is_followed_out_of_a_run(command, sweep, tmp_path, name):
    precious = tmp_path / "precious"
    alone(sweep)
    path = baseline(sweep) / name
    if name == "checkpoints":
        path.rename(precious)
    else:
        precious.write_text("keep")
        path.unlink(missing_ok=True)
    path.symlink_to(precious)
    before = tree(tmp_path)
    for each in COMMANDS:
        done = command(each)
        *_, error = done.stderr.splitlines()  # a slow import may be told before it
        assert (done.returncode, done.stderr.count("sla-ablate: ")) == (2, 1), (each, done)
        assert f"{path} leads out of" in error
    assert tree(tmp_path) == before


@pytest.mark.parametrize(("name", "each"), [("report", "report"), ("figures", "figure"), ("mlflow.db", "retry")])
def test_no_link_is_followed_out_of_a_sweep(command, sweep, tmp_path, name, each):
    (tmp_path / "precious").mkdir()
    (sweep / name).symlink_to(tmp_path / "precious")
    done = command(each)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done
    assert list((tmp_path / "precious").iterdir()) == []


def test_tables_of_an_analysis_are_not_written_through_a_link(sweep, tmp_path):
    (tmp_path / "precious").mkdir()
    (sweep / "analysis").symlink_to(tmp_path / "precious")
    for run in sweep.glob("*-s0-*"):
        analyze_run(run, EFFORT)
    with pytest.raises(InputError, match="leads out of"):
        analyze(sweep, EFFORT, jobs=1)
    assert list((tmp_path / "precious").iterdir()) == []


def test_a_run_that_lies_elsewhere_is_named_and_one_that_is_a_link_within_is_none(command, sweep, tmp_path):
    run = baseline(sweep)
    (run / "latest").symlink_to("run.log")
    assert command("status").returncode == 0
    run.rename(tmp_path / run.name)
    run.symlink_to(tmp_path / run.name)
    for each in set(COMMANDS) - {"generate", "export"}:  # which are given the run itself
        done = command(each)
        assert done.returncode == 2
        assert re.search(f"{run} (is a link|leads out of {sweep})", done.stdout + done.stderr)


def test_what_is_no_file_is_not_read(command, sweep):
    alone(sweep)
    record = baseline(sweep) / "record.json"
    record.unlink()
    os.mkfifo(record)
    for each in COMMANDS:
        done = command(each)
        assert (done.returncode, done.stderr) == (
            2,
            f"sla-ablate: {record} is neither a file nor a folder; move it away\n",
        )


@pytest.mark.parametrize("name", ["run_id", "setting"])
def test_what_names_files_is_made_of_checked_characters(command, sweep, tmp_path, name):
    for run in sweep.glob("*-s0-*"):
        write_record(run, {**read_record(run), name: "../../../precious"})
    before = tree(tmp_path)
    for each in COMMANDS:
        done = command(each)
        assert done.returncode == 2
        assert "record.json is damaged" in done.stderr
    assert tree(tmp_path) == before


def test_the_tokens_of_a_run_are_found_without_its_corpus(sweep, tmp_path):
    run = baseline(sweep)
    change(run, data={"path": str(tmp_path / "gone"), "reader": "this_is:no_module"})
    analyze_run(run, EFFORT)
    assert (run / "analysis.parquet").exists()


def test_a_corpus_is_read_and_a_cache_is_made_for_those_only_whom_the_user_trusts(
    command, sweep, tmp_path, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for run in sweep.glob("*-s0-*"):
        change(run, data={"cache": str(tmp_path / "elsewhere")})
    with pytest.raises(InputError, match=r"elsewhere or ~/\.cache/sla-ablate; .* --trust"):
        analyze_run(run, EFFORT)
    done = {run: read_record(run) for run in sweep.glob("*-s0-*")}
    for each, record in done.items():  # a run that is done needs no corpus
        write_record(each, {**record, "state": "failed", "error": "no luck"})
    retried = command("retry")
    assert (retried.returncode, retried.stderr.count("add --trust\n")) == (2, 2)
    for each, record in done.items():
        write_record(each, record)
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "home/.cache/sla-ablate").exists()
    (shards,) = data_of_all([run], may_prepare=True)
    assert shards.folder.is_relative_to(tmp_path / "elsewhere")
    analyze_run(run, EFFORT)


@pytest.mark.parametrize(
    ("section", "values", "told"),
    [
        ("pattern", {"name": "stranger:run"}, "the function pattern.name=stranger:run"),
        ("data", {"reader": "stranger:run"}, "the function data.reader=stranger:run"),
        ("logger", {"name": "mlflow", "tracking_uri": "http://x"}, "logger=mlflow at http://x"),
        ("logger", {"name": "wandb"}, "logger=wandb"),
    ],
)
def test_nothing_is_called_and_nobody_told_what_a_stranger_names(command, sweep, tmp_path, section, values, told):
    (tmp_path / "stranger.py").write_text("import pathlib; pathlib.Path('called').touch()\n")
    change(baseline(sweep), **{section: values})
    before = tree(tmp_path)
    done = command("retry")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"config.yaml asks for {told}; if you trust it, add --trust" in done.stderr
    assert tree(tmp_path) == before
    for each in ("status", "report", "generate"):
        assert command(each).returncode == 0
    assert not (tmp_path / "called").exists()


def test_labels_and_errors_are_shown_as_text(command, sweep):
    (other,) = sweep.glob("sla-*")
    record = read_record(other)
    write_record(other, {**record, "pattern": {**record["pattern"], "label": NASTY}})
    failed = {**record, "run_id": "failed", "state": "failed", "error": f"no\nsla  done {NASTY}"}
    (sweep / "failed").mkdir()
    tables = {"key_source": record["pattern"]["value_source"][::-1], "label": f"failed {NASTY}"}
    write_record(sweep / "failed", {**failed, "pattern": {**record["pattern"], **tables}})

    outputs = [command(each) for each in ("status", "report", "figure")]
    assert [done.returncode for done in outputs] == [0, 0, 0], outputs
    for done in outputs:
        assert not set("\x1b\u202e\udc80") & set(done.stdout + done.stderr)
    assert len(outputs[0].stdout.splitlines()) == 1 + 3 + 2

    text = (sweep / "report" / "table.md").read_text()
    (row,) = (line for line in text.splitlines() if "script" in line and line.startswith("| "))
    assert row.replace("\\|", "").count("|") == text.splitlines()[0].count("|")
    assert "<script" not in text.replace("\\<", "")
    with (sweep / "report" / "table.csv").open() as file:
        patterns = [row["pattern"] for row in csv.DictReader(file)]
    assert patterns == ["baseline", "'=a|b <script>x</script> ![i](http://tracker) $\\frac{$ \\x1b[31m\\u202e ?"]
    for picture in (*sweep.glob("report/*.svg"), *sweep.glob("figures/*.svg")):
        assert not any("script" in element.tag for element in ElementTree.parse(picture).iter())


def test_generated_text_does_not_rule_the_terminal(command, monkeypatch):
    monkeypatch.setattr("sla_ablate.data.tokenizers.ByteTokenizer.decode", lambda self, ids: "a\n\x1b[31mb\tc")
    assert command("generate").stdout == "a\n\x1b[31mb\tc\n"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert command("generate").stdout == "a\n\\x1b[31mb\tc\n"
