"""A sweep from Python is what its files hold, and the README says how."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import analysis
import sla_ablate
from analysis.figures import write_figures
from analysis.report import write_report
from sla_ablate import GPT, GPTConfig, InputError, SkipPattern, open_sweep
from sla_ablate.runs.record import read_record, write_record
from sla_ablate.runs.trained import load_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def with_models(analyzed, tmp_path_factory):
    """The analyzed sweep with a model in each run."""
    folder = shutil.copytree(analyzed, tmp_path_factory.mktemp("models") / "sweep")
    for run in folder.glob("*-s*"):
        pattern = SkipPattern.from_tables(read_record(run)["pattern"]["key_source"])
        GPT(GPTConfig(2, 2, 8, 40, 257), pattern).save(run / "checkpoints")
    return folder


@pytest.fixture
def of_two_rates(tmp_path, record):
    """A sweep over the distance, which the baseline has no use for, and the learning rate."""
    for lr in (0.001, 0.01):
        for seed in (0, 1):
            for name, distance in (("baseline", 1), ("baseline", 3), ("sla", 1), ("sla", 3)):
                pattern = {"name": name, "distance": distance, "heads": 1}
                optim = {"lr": lr, "steps": 3, "batch_size": 1}
                model = {"n_layer": 4, "n_head": 1, "n_embd": 8, "block_size": 256}
                config = {"pattern": pattern, "optim": optim, "model": model}
                made = record(name, seed, 2 + seed + distance * lr, setting=f"lr{lr}", config=config)
                label = "baseline" if name == "baseline" else f"SLA {distance}"
                source = [[layer - distance if name == "sla" and layer >= distance else layer] for layer in range(4)]
                made["pattern"] = {"name": name, "label": label, "key_source": source, "value_source": source}
                made["run_id"] = f"{label.replace(' ', '-')}-s{seed}-{lr}"
                (tmp_path / made["run_id"]).mkdir(exist_ok=True)
                write_record(tmp_path / made["run_id"], made)
    return tmp_path


def test_what_was_swept_is_a_column_and_null_without_effect(of_two_rates):
    runs = open_sweep(of_two_rates).runs
    assert len(runs) == 12
    assert {key for key in runs if "." in key} == {"pattern.distance", "optim.lr"}
    assert runs.groupby("pattern.distance").size().to_dict() == {1: 4, 3: 4}
    assert runs.loc[runs["pattern"] == "baseline", "pattern.distance"].isna().all()
    assert sorted(set(runs["optim.lr"])) == [0.001, 0.01]


def test_runs_and_patterns_are_chosen(of_two_rates):
    sweep = open_sweep(str(of_two_rates), patterns=["SLA 3", "SLA 1"], where={"optim.lr": 1e-3})
    assert list(sweep.table()["pattern"]) == ["baseline", "SLA 3", "SLA 1"]
    assert len(sweep.runs) == 6
    assert set(open_sweep(of_two_rates, "SLA 1").runs["pattern"]) == {"baseline", "SLA 1"}


def test_losses_of_documents_add_up(of_two_rates):
    sweep = open_sweep(of_two_rates)
    sums = sweep.documents.groupby("run_id")[["nll", "tokens", "bytes", "words"]].sum()
    of_runs = sweep.runs.set_index("run_id").loc[sums.index]
    np.testing.assert_allclose(sums["nll"] / sums["tokens"], of_runs["nats_per_token"])
    pairs = sweep.differences()
    deltas = pairs.groupby(["setting", "pattern"])["delta"].mean()
    table = sweep.table().set_index(["setting", "pattern"])["delta"].dropna()
    pd.testing.assert_series_equal(deltas, table.sort_index(), check_names=False)


def test_a_figure_shows_one_setting(of_two_rates):
    with pytest.raises(InputError, match=r"2 settings, .* where=.* between optim.lr=0.001.*; optim.lr=0.01"):
        open_sweep(of_two_rates).figure("differences")
    figure = open_sweep(of_two_rates, where={"optim.lr": 0.01}).figure("differences", figsize=(5, 2), patterns="SLA 3")
    assert tuple(figure.get_size_inches()) == (5, 2)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["SLA\xa03"]


def test_errors_are_one_line(analyzed, of_two_rates):
    sweep = open_sweep(analyzed)
    for name, options, words in (
        ("layer", {}, "figure 'layer' is unknown; .* did you mean 'layers'"),
        ("layers", {"run": "skip-s0-s1"}, "shows all runs"),
        ("jsd", {"run": "skip-s9-s1"}, "run 'skip-s9-s1' is unknown"),
        ("layers", {"patterns": ["skp"]}, "pattern 'skp' is unknown; .* did you mean 'skip'"),
        ("layers", {"figsize": (1, 1), "ax": plt.figure().add_subplot()}, "figsize is that of a figure of its own"),
    ):
        with pytest.raises(InputError, match=words):
            sweep.figure(name, **options)
    with pytest.raises(InputError, match="was not analyzed; run: sla-ablate analyze"):
        open_sweep(of_two_rates).heads()
    with pytest.raises(InputError, match="holds no runs"):
        open_sweep(of_two_rates / "nowhere")


def test_what_cannot_be_read_is_a_warning(of_two_rates):
    (of_two_rates / "SLA-1-s0-0.01/record.json").write_text("{")
    with pytest.warns(UserWarning, match="SLA-1-s0-0.01"):
        assert len(open_sweep(of_two_rates).runs) == 11


def test_a_sweep_of_which_nothing_is_done_has_empty_tables(tmp_path, record):
    made = record(state="running")
    (tmp_path / made["run_id"]).mkdir()
    write_record(tmp_path / made["run_id"], made)
    sweep = open_sweep(tmp_path)
    for table in (sweep.runs, sweep.documents, sweep.table(), sweep.differences()):
        assert table.empty
        assert len(table.columns)
    with pytest.raises(InputError, match=r"no run .* is done"):
        sweep.figure("differences")


@pytest.mark.parametrize("package", [sla_ablate, analysis])
def test_all_public_names_are_shown_and_there(package):
    assert set(package.__all__) <= set(dir(package))
    assert all(getattr(package, name) for name in package.__all__)


def test_the_readmes_examples(with_models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = [
        block
        for file in ("README.md", "analysis/README.md")
        for block in re.findall("```python\n(.*?)```", (ROOT / file).read_text(), re.DOTALL)
        if "sweep." in block
    ]
    assert len(blocks) == 3
    for block in blocks:
        code = re.sub(r"runs/(distance|demo)", str(with_models), block).replace("/RUN", "/skip-s0-s1")
        exec(code, names)
    assert (tmp_path / "layers.pdf").read_bytes().startswith(b"%PDF")
    assert isinstance(names["model"], GPT)
    axes = names["axes"]
    assert not {*axes} & {*plt.gcf().axes}
    assert isinstance(plt.gcf(), Figure)
    plt.close("all")


def test_folders_may_be_strings(with_models, tmp_path):
    paths = list(write_figures("layers", str(with_models), str(tmp_path / "figures")))
    assert all(path.exists() for path in paths)
    assert write_report(str(with_models), str(tmp_path / "report")).faults == []
    assert load_model(str(with_models / "skip-s0-s1")).config == GPT.load(str(with_models / "skip-s0-s1")).config
