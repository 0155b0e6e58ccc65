"""What is settled when a run is planned, and stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from sla_ablate.errors import InputError
from sla_ablate.launch import plan as module
from sla_ablate.launch.plan import plan, stored_plan
from sla_ablate.runs import ledger
from sla_ablate.runs.record import read_config


def test_automatic_precision_is_settled_once(tmp_path, small_corpus, monkeypatch):
    """It is the one that could have been asked for, another is another run, and a stored run keeps its own."""
    monkeypatch.chdir(tmp_path)
    overrides = ["scale=smoke", "data=sotu_bytes", f"data.path={small_corpus}", f"data.cache={tmp_path / 'cache'}"]
    settled = {}
    for precision in ("bf16", "fp32"):
        monkeypatch.setattr(module, "natural_precision", lambda *machine, natural=precision: natural)
        (settled[precision],) = plan(overrides).runs
        (asked,) = plan([*overrides, f"trainer.precision={precision}"]).runs
        assert settled[precision].config.trainer.precision == precision
        assert settled[precision].folder == asked.folder
    assert settled["bf16"].folder != settled["fp32"].folder

    ledger.enter(settled["bf16"].config, settled["bf16"].data_digest)
    (stored,) = stored_plan(Path("runs/default"), []).runs
    assert stored.config.trainer.precision == "bf16"
    assert stored.folder == settled["bf16"].folder.absolute()


def test_a_label_is_one_patterns(tmp_path, small_corpus, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = ["scale=smoke", "data=sotu_bytes", f"data.path={small_corpus}", f"data.cache={tmp_path / 'cache'}"]
    swept = [*overrides, "pattern=baseline,sla", "pattern.distance=1,2"]
    with pytest.raises(InputError, match=r"pattern.label=Ours is given to several patterns; .*{pattern.distance}"):
        plan([*swept, "pattern.label=Ours"], True)
    runs = plan([*swept, 'pattern.label="Ours, ${pattern.distance}"'], True).runs
    assert [run.config.pattern_label() for run in runs] == ["baseline", "Ours, 1", "Ours, 2"]
    plan([*overrides, "pattern=baseline,sla", "seed=0,1", "model.n_layer=3,4", "pattern.label=Ours"], True)


def test_a_retry_may_change_what_is_no_part_of_a_runs_identity(tmp_path, small_corpus, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = ["scale=smoke", "data=sotu_bytes", f"data.path={small_corpus}", f"data.cache={tmp_path / 'cache'}"]
    (run,) = plan([*overrides, "trainer.log_every=7", "logger.project=mine"]).runs
    ledger.enter(run.config, run.data_digest)
    sweep = Path("runs/default")

    (same,) = stored_plan(sweep, ["limits.minutes=3", "trainer.threads=2", "logger=csv"]).runs
    assert same.folder == run.folder.absolute()
    assert (same.config.limits.minutes, same.config.trainer.threads, same.config.logger.name) == (3, 2, "csv")
    assert same.config.trainer.log_every == 7  # as it was
    ledger.enter(same.config, same.data_digest)
    assert read_config(run.folder).limits.minutes == 3
    (kept,) = stored_plan(sweep, ["logger.mode=offline"]).runs
    assert (kept.config.limits.minutes, kept.config.logger.name) == (3, "csv")

    for override in ("trainer.precision=fp32", "optim.lr=1", "seed=3", "pattern=sla"):
        with pytest.raises(InputError, match=f"'{override}' would change stored runs; allowed: limits"):
            stored_plan(sweep, [override])
    with pytest.raises(InputError, match=r"trainer\.thread"):
        stored_plan(sweep, ["trainer.thread=2"])
    run.config.logger.name, run.config.logger.tracking_uri = "mlflow", "http://elsewhere"
    ledger.enter(run.config, run.data_digest)
    with pytest.raises(InputError, match="mlflow at http://elsewhere; if you trust it, add --trust"):
        stored_plan(sweep, ["logger.project=ours"])
    stored_plan(sweep, ["logger=none"])
