"""Items as their folders hold them: ours are possible at every scale, and what is wrong is told in a line."""

import pytest
import yaml

from sla_ablate.config.compose import choices, compose
from sla_ablate.errors import InputError
from sla_ablate.items.item import FIRST_SEED, read_item
from sla_ablate.items.published import read_published
from sla_ablate.items.store import all_items

ITEMS = all_items()
ASKED = """skip_distance skip_heads distance_by_heads layer_count window which_heads learning_rate context_length
model_size training_length keys_or_values first_layer_values relatives head_diversity""".split()
GOOD = {
    "question": "Does it?",
    "sweep": ["pattern=baseline", "pattern=sla pattern.distance=$distance"],
    "scales": {"smoke": {"seeds": 2, "distance": 1}},
    "rows": ["pattern.distance"],
    "figure": {"kind": "line", "x": "pattern.distance"},
}
VALUE = {"what": "a model", "source": "a paper", "trust": "high", "delta": -0.1}


def write(folder, item, published=()):
    folder.mkdir(exist_ok=True)
    (folder / "item.yaml").write_text(yaml.safe_dump(item))
    (folder / "published.yaml").write_text(yaml.safe_dump(list(published)))
    return folder


def test_the_items_that_the_paper_asks_for_are_there():
    assert set(ASKED) <= set(ITEMS)


@pytest.mark.parametrize("name", ASKED)
def test_an_item_is_possible_at_each_of_its_scales(name):
    item = ITEMS[name]
    assert item.question.endswith("?")
    for scale in item.scales:
        assert scale in choices("scale")
        configs = [c for line in item.command_lines(scale, 1) for c in compose([*line, "data=sotu"], True).configs]
        for config in configs:
            config.check()
            assert config.seed == FIRST_SEED
        tables = {(c.pattern_label(), str(c.optim), str(c.model)) for c in configs}
        assert any(label == "baseline" for label, _, _ in tables)
        assert len(tables) > 1


@pytest.mark.parametrize(
    "change, told",
    [
        ({"sweeps": []}, "did you mean 'sweep'"),
        ({"figure": {"kind": "lines", "x": "a"}}, "did you mean 'line'"),
        ({"figure": {"kind": "grid", "x": "a"}}, "kind, x, y"),
        ({"reading": "D"}, "choose from A, B, C"),
        ({"scales": {"smoke": {"seeds": 2}}}, "has to give distance, seeds"),
        ({"figure": "line"}, "figure is no dict"),
    ],
)
def test_what_is_wrong_with_an_item_is_told_in_a_line(tmp_path, change, told):
    folder = write(tmp_path / "mine", {**GOOD, **change})
    with pytest.raises(InputError, match=told) as error:
        read_item(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "override",
    ["hydra.launcher.setup=[reboot]", "logger=wandb", "data.path=/etc", "output=/", "pattern.label=${oc.env:SECRET}"],
)
def test_an_item_says_what_is_computed_and_nothing_else(tmp_path, override):
    folder = write(tmp_path / "mine", {**GOOD, "sweep": [*GOOD["sweep"], f"pattern=sla '{override}'"]})
    with pytest.raises(InputError, match=r"something else than what is computed|no line of overrides"):
        read_item(folder).command_lines("smoke", 1)


def test_a_function_that_an_item_names_is_called_for_those_who_trust_it(here, tmp_path):
    (tmp_path / "stranger.py").write_text("import pathlib; pathlib.Path('called').touch()\n")
    write(tmp_path / "mine", {**GOOD, "sweep": [*GOOD["sweep"], "pattern.name=stranger:run"]})
    done = here("reproduce", "./mine", "--dry-run")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "asks for the function pattern.name=stranger:run; if you trust it, add --trust" in done.stderr
    assert not (tmp_path / "called").exists()


def test_an_unknown_scale_of_an_item_is_told_with_those_it_has(tmp_path):
    item = read_item(write(tmp_path / "mine", GOOD))
    with pytest.raises(InputError, match="choose from smoke"):
        item.command_lines("smoky", 1)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"source": ""}, "has no source"),
        ({"source": None}, "has no source"),
        ({"trust": "hig"}, "did you mean 'high'"),
        ({"delta": None}, "no number"),
        ({"delta": float("nan")}, "no number"),
        ({"value": 1}, "'value' is unknown"),
        ({"pattern": {"name": "sla", "distance": 20}, "layers": 12, "heads": 12}, "distance"),
        ({"pattern": {"nam": "sla"}}, "did you mean 'name'"),
        ({"pattern": "sla"}, "mapping"),
        ({"layers": "x"}, "layers is a whole number, not 'x'"),
    ],
)
def test_a_published_value_that_cannot_be_believed_is_refused(tmp_path, change, told):
    folder = write(tmp_path / "mine", GOOD, [VALUE, {**VALUE, **change}])
    with pytest.raises(InputError, match=told) as error:
        read_published(folder / "published.yaml")
    assert "value 2" in str(error.value) or "distance" in str(error.value)
