"""Every number of a configuration and of the command line has two bounds, and none is forgotten."""

from __future__ import annotations

import math
import re
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from omegaconf import OmegaConf

from sla_ablate import commands
from sla_ablate.bounds import Bounds
from sla_ablate.config.bounds import BOUNDS, HYDRA_BOUNDS, check_hydra_numbers
from sla_ablate.config.compose import _Composer
from sla_ablate.config.schema import RunConfig
from sla_ablate.errors import InputError

TWENTY_DIGITS = 99999999999999999999
WITHIN = {  # as a list's elements are given
    "optim.betas": "[0.9,{}]",
    "pattern.key_source": "[[0],[{}]]",
    "pattern.value_source": "[[0],[{}]]",
}


def numbers(cls=RunConfig, prefix=""):
    """Every key of the schema whose type has a number in it, with that number's type."""
    for name, hint in get_type_hints(cls).items():
        if is_dataclass(hint):
            yield from numbers(hint, f"{prefix}{name}.")
        else:
            yield from ((f"{prefix}{name}", kind) for kind in (int, float) if kind in atoms(hint))


def atoms(hint):
    return {hint} if not get_args(hint) else {atom for each in get_args(hint) for atom in atoms(each)}


NUMBERS = dict(numbers())


def outside(key):
    """Values below and above of what is possible, none of them what the type cannot hold."""
    bounds = BOUNDS[key]
    if bounds.kind is int:
        return [bounds.lowest - 1, bounds.highest + 1, TWENTY_DIGITS]
    below = bounds.lowest if bounds.ends[0] == "(" else math.nextafter(bounds.lowest, -1)
    above = bounds.highest if bounds.ends[1] == ")" else 2 * bounds.highest
    return [below, above, math.inf, -math.inf, math.nan, max(10 * above, float(TWENTY_DIGITS))]


def test_every_number_of_the_schema_is_in_the_table_with_its_type():
    assert {key: bounds.kind for key, bounds in BOUNDS.items()} == NUMBERS
    assert len(NUMBERS) > 30


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_outside_of_its_bounds_is_one_line_and_nothing_is_written(here, tmp_path, key):
    values = [WITHIN.get(key, "{}").format(value) for value in outside(key)]
    patterns = ["pattern=sla,first_layer,tables,cla,yoco,pizza,random"] if key.startswith("pattern.") else []
    done = here("train", "-m", f"{key}={','.join(values)}", *patterns)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert len(lines) == len(values)  # each value has one of its own, the same for all patterns
    assert all(line.startswith(f"sla-ablate: {key}=") and " is not possible; choose " in line for line in lines)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["inf", "nan", "1e99", "six", "9" * 5000])
@pytest.mark.parametrize("key", ["seed", "optim.lr"])
def test_what_is_no_such_number_is_one_line_too(here, tmp_path, key, value):
    done = here("train", f"{key}={value}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert key in done.stderr
    assert len(done.stderr) < 400
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("bounds", "possible", "impossible", "words"),
    [
        (Bounds(1, 3), [1, 3], [0, 4, 1.0, True, "2", None], "1 to 3"),
        (Bounds(0.0, 1.0, "[)"), [0, 0.0, 0.999], [1, 1.0, -5e-324, math.nan], "0 or more and less than 1"),
        (Bounds(0.0, 1e30, "(]"), [5e-324, 1e30], [0, 0.0, math.inf], "more than 0 and at most 1e+30"),
        (Bounds(-2, 2, without=0), [-2, 2], [0], "-2 to 2 except 0"),
    ],
)
def test_bounds(bounds, possible, impossible, words):
    assert [value in bounds for value in possible] == [True] * len(possible)
    assert [value in bounds for value in impossible] == [False] * len(impossible)
    assert str(bounds) == words


@pytest.mark.parametrize("launcher", ["basic", "local", "joblib", "slurm", "slurm_local", "ray"])
def test_every_number_of_a_launcher_has_bounds(launcher):
    composed = _Composer([], None, "config")([f"hydra/launcher={launcher}"]).hydra
    values: Any = OmegaConf.to_container(composed.launcher, resolve=True)
    check_hydra_numbers({"launcher": values, "sweeper": {}})
    tried = {name for name in values if isinstance(values[name], int) and not isinstance(values[name], bool)}
    tried |= {key.split(".")[2] for key in HYDRA_BOUNDS if key.startswith("hydra.launcher.")} & values.keys()
    for name in tried:
        for value in (TWENTY_DIGITS, -TWENTY_DIGITS, math.inf, math.nan):
            with pytest.raises(InputError, match=f"hydra.launcher.{name}="):
                check_hydra_numbers({"launcher": {**values, name: value}, "sweeper": {}})
    assert tried or launcher == "basic"


@pytest.mark.parametrize(
    "overrides",
    [
        ["hydra/launcher=local", "hydra.launcher.n_jobs=0"],
        ["hydra/launcher=local", "hydra.launcher.n_jobs=two"],
        ["hydra/launcher=slurm_local", "hydra.launcher.timeout_min=0"],
        ["hydra.sweeper.max_batch_size=0"],
        ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=1.5", "optim.lr=interval(1e-3,1e-2)"],
        ["hydra/sweeper=optuna", "hydra.sweeper.sampler.seed=4294967296", "optim.lr=interval(1e-3,1e-2)"],
        ["trainer.threads=1024", "trainer.devices=1024", "optim.batch_size=1024"],
    ],
)
def test_a_launcher_or_sweeper_is_refused_what_it_cannot_take(here, tmp_path, overrides):
    done = here("train", "-m", *overrides)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert overrides[-1].split("=")[0] in done.stderr or overrides[-2].split("=")[0] in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "option"),
    [
        *(("generate", option) for option in ("--max-new-tokens", "--temperature", "--top-k", "--top-p", "--seed")),
        *(("analyze", option) for option in ("--tokens", "--query-rows", "--stride", "--jobs")),
        ("train", "--shard"),
    ],
)
@pytest.mark.parametrize("value", ["-1", "9" * 30, "inf", "nan", "x", "9" * 5000])
def test_a_number_of_the_command_line_is_one_line(here, tmp_path, command, option, value):
    if (option, value) == ("--temperature", "9" * 30):  # a number like any other
        value = "9" * 31
    done = here(command, *(["runs/none"] if command != "train" else []), f"{option}={value}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert option in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_command_takes_a_number_without_bounds():
    for name in commands.names():
        text = Path(commands._command(name).__file__).read_text(encoding="utf-8")
        assert not re.findall(r"type=(?:int|float)\b", text), name
