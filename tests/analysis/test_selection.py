"""Which runs tables and figures show."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from analysis.comparison import comparison_table
from analysis.figures.shown import shown_patterns
from analysis.selection import Selection
from analysis.sweep_data import SweepData
from sla_ablate.config.schema import ModelConfig, OptimConfig, PatternConfig, RunConfig
from sla_ablate.errors import InputError

LOSSES = {"baseline": 2.0, "sla-d1": 2.3, "sla-d2": 2.2, "cla": 2.1, "sla-label": 2.4}


@pytest.fixture
def records(record):
    """Two seeds of five patterns of a model of four layers, of which the last has a label with a comma."""

    def make(name, seed, lr=0.001):
        kind, _, rest = name.partition("-")
        distance = int(rest[1:]) if rest[:1] == "d" else None  # null: 3
        pattern = PatternConfig(kind, distance=distance, label="Ours, 50% $x$" if rest == "label" else None)
        config = RunConfig(ModelConfig(n_layer=4, n_head=2), pattern, optim=OptimConfig(lr=lr), seed=seed)
        tables = config.skip_pattern()
        made = record(name, seed, LOSSES[name] + seed / 10, config=asdict(config))
        made["run_id"] = f"{config.pattern_slug()}-s{seed}-1234abcd"
        made["pattern"] = {
            "name": kind,
            "label": config.pattern_label(),
            "key_source": tables.key_source.tolist(),
            "value_source": tables.value_source.tolist(),
        }
        return made

    return [make(name, seed) for name in LOSSES for seed in (0, 1)]


ONE, TWO, CLA, OURS = (
    "SLA, distance 1, 2 of 2 heads",
    "SLA, distance 2, 2 of 2 heads",
    "CLA, groups of 2",
    "Ours, 50% $x$",
)


@pytest.mark.parametrize(
    ("asked", "labels"),
    [
        (["cla"], [CLA]),
        ([f"{OURS},{CLA}"], [OURS, CLA]),
        ([f"{TWO}, {OURS}, {ONE}"], [TWO, OURS, ONE]),
        (["sla-d2-h2", "baseline"], [TWO, "baseline"]),
        (["sla"], [ONE, TWO, OURS]),
    ],
)
def test_patterns_by_any_of_their_names_in_the_order_asked_for(records, asked, labels):
    kept, chosen = Selection(asked).of(records)
    assert chosen == labels
    assert {record["pattern"]["label"] for record in kept} == {"baseline", *labels}
    rows = list(comparison_table(kept, chosen)["pattern"])
    assert rows == (labels if "baseline" in labels else ["baseline", *labels])
    data = SweepData(None, kept, chosen=chosen)
    shown = shown_patterns(data)
    assert list(shown) == labels
    assert len({look.colour for look in shown.values()}) == len(labels)


def test_nothing_is_left_out_by_its_outcome(records):
    first = list(shown_patterns(SweepData(None, records)))
    for record in records:
        nll = record["results"]["validation"]["nll"]
        record["results"]["validation"]["nll"] = [10 - each for each in nll]
    assert list(shown_patterns(SweepData(None, records))) == first == ["baseline", CLA, OURS, ONE]


@pytest.mark.parametrize(
    ("where", "labels", "seeds"),
    [
        (["seed=1"], {"baseline", ONE, TWO, CLA, OURS}, {1}),
        (["pattern.distance=3"], {"baseline", OURS}, {0, 1}),  # which null comes to
        (["pattern.name=sla", "seed=0"], {"baseline", ONE, TWO, OURS}, {0}),
        (["optim.lr=1e-3", "model.bias=true", "evaluation.tokens=null"], {"baseline", ONE, TWO, CLA, OURS}, {0, 1}),
    ],
)
def test_runs_by_their_values(records, where, labels, seeds):
    kept, chosen = Selection(where=where).of(records)
    assert chosen == []
    assert {record["pattern"]["label"] for record in kept} == labels
    assert {record["seed"] for record in kept} == seeds


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"patterns": ["cla,yoco"]}, "pattern 'yoco' is unknown"),
        ({"where": ["seed"]}, "--where 'seed' is no KEY=VALUE"),
        ({"where": ["optim.rl=1"]}, "--where 'optim.rl' is unknown; .*did you mean 'optim.lr'"),
        ({"where": ["seed=7"]}, "no run has seed=7; runs have seed=0|1"),
    ],
)
def test_what_there_is_not_is_told(records, selection, message):
    with pytest.raises(InputError, match=message):
        Selection(**selection).of(records)


def test_files_of_a_selection_have_a_name_of_their_own():
    assert Selection().suffix == ""
    assert Selection(["Ours, 50%/../x", "cla"], ["seed=0"]).suffix == "-Ours-50-..-x-cla-seed=0"
    assert len(Selection(["x" * 1000]).suffix) == 100


def test_a_label_of_the_users_own_is_the_patterns_and_no_other():
    model = ModelConfig(n_layer=4, n_head=2)
    config = RunConfig(model, PatternConfig("sla", label="Ours"))
    config.check()
    unnamed = RunConfig(model, PatternConfig("sla"))
    assert (config.pattern_label(), config.pattern_slug()) == ("Ours", unnamed.pattern_slug())
    assert RunConfig(model, PatternConfig("baseline", label="Ours")).pattern_label() == "baseline"
    for label, message in ((" ", "pattern.label is empty"), ("baseline", "is the name of the pattern without skips")):
        with pytest.raises(InputError, match=message):
            RunConfig(model, PatternConfig("sla", label=label)).check()
