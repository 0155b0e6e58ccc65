"""What tells runs apart."""

import pytest

from sla_ablate.config.schema import PatternConfig, RunConfig
from sla_ablate.runs import ledger, swept
from sla_ablate.runs.identity import identify, run_folder
from sla_ablate.runs.record import read_summary


@pytest.fixture
def record(tmp_path):
    def entered(pattern, **changes):
        config = RunConfig(pattern=PatternConfig(**pattern), output=str(tmp_path))
        for key, value in changes.items():
            section, _, name = key.partition("_")
            setattr(getattr(config, section), name, value) if name else setattr(config, section, value)
        ledger.enter(config, "digest")
        return read_summary(run_folder(config, identify(config, "digest")))

    return entered


def test_what_was_swept_and_nothing_else(record):
    distances = [record({"name": "sla", "distance": n}, seed=seed) for n in (1, 3) for seed in (0, 1)]
    runs = [record({"name": "baseline", "distance": 3}), *distances]
    assert swept.swept(runs) == ["pattern.name", "pattern.distance", "seed"]
    assert swept.columns(runs) == [{"pattern.distance": n} for n in (None, 1, 1, 3, 3)]


def test_null_is_what_it_stands_for(record):
    runs = [record({"name": "sla", "distance": n}) for n in (None, 1)]  # of six layers
    assert [values["pattern.distance"] for values in swept.columns(runs)] == [4, 1]


def test_an_option_of_one_pattern_was_not_swept(record):
    assert swept.swept([record({"name": "sla"}), record({"name": "cla", "group_size": 3})]) == ["pattern.name"]


def test_what_changes_no_result_was_not_swept(record):
    runs = [record({"name": "sla", "label": "Ours"}, trainer_threads=2), record({"name": "sla"}, seed=1)]
    assert swept.swept(runs) == ["seed"]


def test_settings_are_named_by_what_tells_them_apart(record):
    runs = [record({"name": name}, optim_lr=lr) for lr in (1e-3, 1e-4) for name in ("baseline", "sla")]
    first, last = runs[0]["setting"], runs[-1]["setting"]
    assert swept.titles(runs) == {first: "optim.lr=0.001", last: "optim.lr=0.0001"}
    assert swept.file_names(runs) == {first: "lr0.001", last: "lr0.0001"}
    unlike = [*runs, {**runs[0], "setting": "other"}]  # told by nothing that the configuration says
    assert swept.file_names(unlike)["other"] == "lr0.001-other"


def test_values_of_several_kinds_are_text(record):
    runs = [record({"name": "sla", "distance": 1}), record({"name": "sla", "distance": 2})]
    runs[0]["config"]["pattern"] = {"name": "mine:zigzag", "distance": "far"}
    assert swept.columns(runs) == [{"pattern.distance": "far"}, {"pattern.distance": "2"}]
