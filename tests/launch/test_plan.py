"""What is settled when a run is planned, and stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from sla_ablate.errors import InputError
from sla_ablate.launch import plan as module
from sla_ablate.launch.plan import plan, stored_plan
from sla_ablate.runs import ledger


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
