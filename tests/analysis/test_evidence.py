"""A sweep with a run that diverged, and one with a run under two names, as the commands show them."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest

from analysis.figures import open_settings, write_figures
from sla_ablate.runs.record import read_record, write_record

ERROR = "the training loss is not finite at step 2"


@pytest.fixture
def sweep(analyzed, tmp_path):
    return shutil.copytree(analyzed, tmp_path / "runs" / "sweep")


@pytest.fixture
def diverge(sweep):
    """Makes of a done run one that diverged; returns its folder."""

    def diverge(run):
        record = read_record(sweep / run)
        del record["results"], record["cost"]
        (sweep / run / "results.json").unlink()
        write_record(sweep / run, record | {"state": "diverged", "error": ERROR, "diverged_at_step": 2})
        return sweep / run

    return diverge


def test_a_diverged_run_stands_in_the_table_and_in_no_figure(here, sweep, diverge):
    diverge("skip-s1-s1")
    report = here("report", str(sweep), "--format", "markdown")
    assert report.returncode == 0
    assert "| 2 (1 diverged) |" in " ".join(report.stdout.split())
    assert "Diverged: 1 of 3 seeds of skip." in report.stdout
    table = pd.read_csv(sweep / "report" / "table.csv").set_index("pattern")
    assert table[["runs", "diverged", "pairs"]].to_numpy().tolist() == [[3, 0, 0], [2, 1, 2]]
    (data,) = open_settings(sweep).values()
    assert len(data.records) == 5
    assert "skip-s1-s1" not in set(data.heads["run"])
    assert "(n = 2)" in (sweep / "report" / "diversity.md").read_text()


@pytest.mark.parametrize("command", ["generate", "export", "figure"])
def test_what_needs_a_model_is_refused_in_one_line(here, sweep, diverge, command):
    run = diverge("skip-s1-s1")
    arguments = {"generate": [run, "a"], "export": [run, "out"], "figure": ["jsd", sweep, "--run", run]}[command]
    done = here(command, *map(str, arguments))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"sla-ablate: {run} is diverged, not done: {ERROR}\n")
    assert done.stderr.count("sla-ablate: ") == 1  # a slow import may be told before it


@pytest.mark.parametrize("command", ["report", "analyze", "figure"])
def test_nothing_but_diverged_runs_is_one_line(here, sweep, diverge, command):
    for run in sweep.glob("*-s1"):
        diverge(run.name)
    done = here(command, *(["training"] if command == "figure" else []), str(sweep))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.endswith(": 6 diverged (baseline; skip)\n")


def test_status_counts_and_names_it(here, sweep, diverge):
    diverge("skip-s1-s1")
    for run in sweep.glob("*-s1"):
        record = read_record(run)
        model = dict.fromkeys(("n_layer", "n_head", "n_embd", "block_size"), 4)
        sizes = {"model": model, "data": {}, "optim": {"steps": 9, "batch_size": 1}}
        write_record(run, record | {"config": sizes})
    status = here("status", str(sweep))
    assert status.stdout.splitlines()[-1] == "6 run(s): 5 done, 1 diverged"
    (line,) = (line for line in status.stdout.splitlines() if line.startswith("skip-s1-s1"))
    assert line.split()[1] == "diverged"
    assert line.endswith(ERROR)


def test_a_run_under_two_names_is_one_in_tables_and_figures(here, sweep, monkeypatch):
    twin = shutil.copytree(sweep / "skip-s0-s1", sweep / "tables-s0-s1")
    record = read_record(twin)
    write_record(twin, record | {"run_id": twin.name, "pattern": record["pattern"] | {"label": "tables x"}})
    report = here("report", str(sweep), "--format", "markdown")
    assert report.stdout.count("| skip, also tables x |") == 1
    (data,) = open_settings(sweep).values()
    assert data.ranked == ["baseline", "skip, also tables x"]
    assert set(data.heads["pattern"]) == set(data.ranked)  # which were analyzed before there was a second name
    assert set(data.training()["pattern"]) == set(data.ranked)
    assert data.unmeasured == []
    assert (sweep / "report" / "diversity.md").read_text().count("Δ skip, also tables x |") == 3
    monkeypatch.setattr("analysis.figures.FORMATS", ("svg",))
    path, _ = write_figures("pattern", sweep, run=str(twin))
    assert "skip" in path.read_text()
