"""What cannot be drawn of a model of one head, or of a context of a few tokens, is told in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis import analyze as module
from analysis.analyze import Effort, analyze, analyze_run
from analysis.figures import FIGURES
from analysis.figures.head_map import classical_scaling
from analysis.sweep_data import open_settings
from sla_ablate import GPT
from sla_ablate.config.schema import ModelConfig, RunConfig
from sla_ablate.data.config import DataConfig
from sla_ablate.data.shards import prepare
from sla_ablate.errors import InputError
from sla_ablate.runs import ledger
from sla_ablate.runs.identity import identify, run_folder
from sla_ablate.runs.record import CHECKPOINT, read_record, write_record

UNDRAWN = {
    "differences": "no pattern has a done run paired with a done baseline run",
    "head_map": "there is only one",
    "layer_similarity": "of map_similarity no value came: the context is too short",
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, small_corpus, record) -> Path:
    """The analyzed sweep of one run: one layer, one head, eight tokens of context."""
    folder = tmp_path_factory.mktemp("runs")
    data = DataConfig(path=str(small_corpus), tokenizer="bytes", cache=str(small_corpus.parent / "cache"))
    shards = prepare(data, log=lambda line: None)
    config = RunConfig(ModelConfig(n_layer=1, n_head=1, n_embd=8, block_size=8), data=data, output=str(folder))
    ledger.enter(config, shards.digest)
    run = run_folder(config, identify(config, shards.digest))
    results = {name: record()[name] for name in ("environment", "cost", "results")}
    write_record(run, {**read_record(run), **results, "state": "done"})
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 1, "validation_loss": 2.0}\n')
    model = GPT(config.gpt_config(shards.tokenizer.vocab_size), config.skip_pattern())
    model.init_weights(0)
    model.save(run / CHECKPOINT)
    with pytest.MonkeyPatch.context() as patch:

        def each(module, preloaded, arguments, jobs, began):
            for argument in arguments:
                analyze_run(run, Effort(64, 8))
                yield argument, None, []

        patch.setattr(module, "call_each", each)
        assert analyze(run.parent, Effort(64, 8), 1)
    return run.parent


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_or_says_why_not(sweep, name):
    (data,) = open_settings(sweep).values()
    try:
        FIGURES[name](data)
    except InputError as error:
        assert name in UNDRAWN, error
        assert UNDRAWN[name] in str(error)
        assert "\n" not in str(error)
        assert "run: sla-ablate analyze" not in str(error)
    else:
        assert name not in UNDRAWN


def test_heads_that_are_all_alike_are_one_point_without_stress():
    points, stress = classical_scaling(np.zeros((3, 3)))
    assert (points == 0).all()
    assert stress == 0


@pytest.mark.parametrize("run", ["", ".", "./", "../{}", "{}"])
def test_a_run_is_named_by_any_path_to_it(sweep, here, monkeypatch, run):
    (folder,) = sweep.glob("baseline-*")
    monkeypatch.chdir(folder)
    done = here("figure", "pattern", "..", "--out", "figures", "--run", run.format(folder.name) or str(folder))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
