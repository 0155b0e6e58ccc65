"""The help of `train` says all that a run's configuration can be."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import pytest

from sla_ablate.config import reference
from sla_ablate.config.compose import choices, compose
from sla_ablate.config.schema import RunConfig
from sla_ablate.errors import InputError


def leaves(config, prefix=""):
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value


def test_every_key_of_the_schema_has_its_sentence_type_and_default():
    options = {option.key: option for option in reference.options()}
    assert set(options) == {key for key, _ in leaves(RunConfig())}
    assert [key for key, option in options.items() if not option.sentence.endswith((".", "."))] == []
    assert [key for key, option in options.items() if not option.kind] == []
    shown = compose([f"{key}={o.default}" for key, o in options.items() if not key.startswith("pattern.")]).configs
    assert shown == compose([]).configs
    assert options["pattern.options"].default == "{}"


def test_every_choice_is_one_that_hydra_has_and_says_what_it_is():
    for group, names in reference.groups().items():
        own = {"hydra/launcher": "launcher", "hydra/sweeper": "sweeper"}.get(group)
        assert set(names) <= {*choices(group)}, group
        assert own or list(names) == choices(group)
        assert [name for name, sentence in names.items() if not sentence] == []


@pytest.mark.parametrize("group", ["hydra/launcher", "hydra/sweeper"])
def test_launchers_and_sweepers_tell_their_options(group):
    told = [option for name in reference.groups()[group] for option in reference.launching(group, name)]
    assert [option.key for option in told if not (option.sentence and option.kind)] == []
    assert {"hydra.launcher": 10, "hydra.sweeper": 3}[group.replace("/", ".")] < len(told)


def test_values_that_are_offered_can_be_had():
    for option in reference.options():
        for value in option.values:
            section, _, name = option.key.partition(".")
            config = RunConfig()
            setattr(getattr(config, section), name, {"true": True, "false": False, "null": None}.get(value, value))
            if value not in ("tables", "layer_types") and not config.trainer.keep_best:  # which need more
                config.check()


def test_help_of_a_group(here):
    whole = here("train", "--help").stdout
    part = here("train", "--help", "optim").stdout
    assert part in whole
    assert part.startswith("optim: AdamW, its schedule")
    assert "  optim.lr=0.003  (number, more than 0 and at most 1e+30)\n      Peak learning rate.\n" in part
    assert "pattern.distance" not in part
    assert "hydra.launcher.partition=null" in here("train", "--help", "hydra/launcher").stdout
    with pytest.raises(InputError, match=r"group 'optin' is unknown; .*did you mean 'optim'"):
        reference.describe(["optin"])
