"""Checkpoints that are damaged, renamed, another run's or lack a part: none is gone on from."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from test_resume import Attempts, config, last_checkpoint

from sla_ablate.data.shards import prepare
from sla_ablate.errors import InputError
from sla_ablate.runs.metrics import METRICS
from sla_ablate.training.callbacks.checkpoints import AtomicCheckpointIO, checkpoints, last_whole
from sla_ablate.training.module import build_model
from sla_ablate.training.resumption import check_state

__all__ = ["config"]  # a fixture


@pytest.fixture(scope="module")
def kept():
    return {}


@pytest.fixture
def interrupted(kept, config, tmp_path_factory):
    """The folder of a run that was killed and has two checkpoints, and its model."""
    if "folder" not in kept:
        attempts = Attempts(tmp_path_factory.mktemp("interrupted") / "run", config)
        process = attempts.start()
        attempts.wait_for_step(8)
        attempts.kill(process)
        kept["folder"] = attempts.folder
        kept["model"] = build_model(config, prepare(config.data, log=lambda line: None).tokenizer.vocab_size)
    return kept["folder"], kept["model"]


@pytest.fixture
def choose(interrupted, tmp_path):
    """The run's folder, the paths of its two checkpoints, and a function that gives the step and what was said."""
    original, model = interrupted
    folder = Path(shutil.copytree(original, tmp_path / "run"))
    last, before, *older = checkpoints(folder / "checkpoints")
    for path in older:  # which the kill may have left
        path.unlink()

    def chosen(run_id: str = "run"):
        said = []
        path, step = last_whole(
            folder / "checkpoints", lambda path, state: check_state(path, state, folder, run_id, model), said.append
        )
        assert path is None or path.name == f"step-{step:08d}.ckpt"
        return step, said

    return folder, last, before, chosen


def step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def change(path: Path, change_state) -> None:
    state = torch.load(path, weights_only=True)
    change_state(state)
    AtomicCheckpointIO().save_checkpoint(state, path)


def test_the_last_is_taken_if_it_is_whole(choose):
    _, last, _, chosen = choose
    assert chosen() == (step_of(last), [])


def test_no_flipped_bit_is_believed(choose):
    _, last, before, chosen = choose
    contents, draw = last.read_bytes(), random.Random(0)
    for _ in range(30):
        flipped = bytearray(contents)
        flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
        last.write_bytes(flipped)
        assert chosen() == (
            step_of(before),
            [f"{last} is not whole, or was changed since it was written; set aside"],
        )
        assert last.with_name(f"{last.name}.refused").read_bytes() == flipped


@pytest.mark.parametrize("content", [b"", b"x", b"not a checkpoint" * 100, "half"])
def test_what_is_not_whole_is_set_aside(choose, content):
    _, last, before, chosen = choose
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2] if content == "half" else content)
    step, (line,) = chosen()
    assert step == step_of(before)
    assert str(last) in line


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_is_no_file_is_set_aside(choose, tmp_path, kind):
    _, last, before, chosen = choose
    last.rename(tmp_path / "elsewhere")
    if kind == "folder":
        last.mkdir()
    elif kind == "pipe":
        os.mkfifo(last)
    else:
        last.symlink_to(tmp_path / "elsewhere")
    step, (line,) = chosen()
    assert (step, str(last) in line) == (step_of(before), True)


def test_its_step_is_in_it_and_not_in_its_name(choose):
    _, last, before, chosen = choose
    renamed = last.with_name("step-00000055.ckpt")
    shutil.copy(before, renamed)
    step, said = chosen()
    assert step == step_of(last)
    assert said == [f"{renamed} is of step {step_of(before)}; set aside"]


@pytest.mark.parametrize(
    ("change_state", "reason"),
    [
        (lambda state: state.update(run="another"), "is of the run another"),
        (lambda state: state["state_dict"].popitem(), "is of a model of another shape"),
        (lambda state: state.pop("optimizer_states"), "lacks 'optimizer_states'"),
        (lambda state: state.update(optimizer_states=[]), "lacks a part"),
        (lambda state: state["optimizer_states"][0]["state"].clear(), "has the optimizer of another model"),
        (lambda state: state.update(lr_schedulers=[]), "lacks a part"),
        (lambda state: state["callbacks"].pop("RandomState"), "lacks 'RandomState'"),
        (lambda state: state["callbacks"].pop("Progress"), "lacks 'Progress'"),
        (lambda state: state["callbacks"]["Metrics"].pop("sha256"), "lacks 'sha256'"),
        (lambda state: state.update(callbacks=None), "lacks"),
    ],
)
def test_what_is_another_runs_or_lacks_a_part_is_set_aside(choose, change_state, reason):
    _, last, before, chosen = choose
    change(last, change_state)
    step, (line,) = chosen()
    assert step == step_of(before)
    assert line.startswith(f"{last} {reason}")


def test_metrics_that_were_changed_are_not_gone_on_from(choose):
    folder, *_, chosen = choose
    metrics = folder / METRICS
    text = metrics.read_text()
    metrics.write_text(text.replace('"step": 7', '"step": 6'))
    assert metrics.read_text() != text
    step, said = chosen()
    assert step in (0, 5, 6)  # one from before the first line was written is as good as ever
    assert f"{metrics} is missing, or was changed since the checkpoint was written; set aside" in said


def test_with_none_left_the_run_begins_again(choose):
    _, last, before, chosen = choose
    for path in (last, before):
        path.write_bytes(path.read_bytes()[:-1])
    step, said = chosen()
    assert (step, len(said)) == (0, 3)
    assert said[-1] == "there is no other checkpoint; the run begins again"
    assert chosen() == (0, [])


def test_a_checkpoint_without_its_digest_is_not_read(tmp_path):
    torch.save({"a": 1}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="is not whole"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")
    assert last_checkpoint(tmp_path) == (None, 0)
