"""A key of the configuration is part of a run's identity, or it provably does not change the result."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path

import pytest
import yaml

from sla_ablate.config.schema import ModelConfig, OptimConfig, PatternConfig, RunConfig, TrainerConfig
from sla_ablate.data.config import DataConfig
from sla_ablate.data.shards import prepare
from sla_ablate.processes.signals import Interruption
from sla_ablate.runs.identity import identify
from sla_ablate.runs.ledger import enter
from sla_ablate.runs.record import read_record
from sla_ablate.text.telling import Silence
from sla_ablate.training.attempt import attempt

IDENTIFYING = {
    **{"model.n_layer": 4, "model.n_head": 4, "model.n_embd": 16, "model.block_size": 8, "model.bias": False},
    **{"model.dropout": 0.1, "model.positions": "rotary", "model.rotary_base": 100.0},
    **{"optim.steps": 7, "optim.batch_size": 8, "optim.lr": 1e-3, "optim.min_lr": 1e-5, "optim.warmup_steps": 1},
    **{"optim.betas": [0.8, 0.9], "optim.weight_decay": 0.2, "optim.grad_clip": 0.5, "optim.label_smoothing": 0.1},
    **{
        "data.path": "other",
        "data.tokenizer": "bpe",
        "data.vocab_size": 300,
        "data.validation_fraction": 0.3,
        "data.text_field": "title",
    },
    **{"data.id_field": "name", "evaluation.tokens": 1000, "trainer.precision": "bf16", "seed": 1},
}
"""Another value for each key that changes the result."""
PATTERNS = {
    "pattern.name": ({}, "window"),
    "pattern.distance": ({}, 2),
    "pattern.heads": ({}, 1),
    "pattern.source": ({"name": "first_layer"}, 1),
    "pattern.layers": ({}, 1),
    "pattern.placement": ({"heads": 1}, "last"),
    "pattern.share": ({}, "keys"),
    "pattern.group_size": ({"name": "cla"}, 3),
    "pattern.split": ({"name": "yoco"}, 2),
    "pattern.partition": ({"name": "condensed", "kv_layers": 2}, "lasagna"),
    "pattern.kv_layers": ({"name": "condensed"}, 2),
    "pattern.seed": ({"name": "random", "heads": 1}, 3),
    "pattern.layer_types": ({}, "0_0_0"),
    "pattern.key_source": ({"name": "tables", "key_source": [[0, 0], [1, 1], [2, 2]]}, [[0, 0], [0, 1], [2, 2]]),
    "pattern.value_source": ({"name": "tables", "key_source": [[0, 0], [1, 1], [2, 2]]}, [[0, 0], [0, 1], [2, 2]]),
}
"""For each key of a pattern one that has a use for it, and another value."""
WITHOUT_EFFECT = {
    **{"trainer.workers": 1, "trainer.log_every": 1, "trainer.validate_every": 2, "trainer.checkpoint_minutes": 1e-6},
    **{"trainer.keep_checkpoints": 1, "trainer.keep_best": True, "trainer.checkpoint_activations": True},
    **{
        "logger.name": "tensorboard",
        "logger.project": "p",
        "logger.mode": "offline",
        "logger.tracking_uri": "sqlite://",
        **{"logger.entity": "me", "logger.group": "g", "logger.tags": ["a"], "logger.notes": "n"},
    },
    **{
        "limits.minutes": 9.0,
        "limits.memory_gb": 9.0,
        "sweep": "other",
        "output": "elsewhere",
        "data.cache": "another",
    },
    **{"trainer.accelerator": "cpu", "pattern.label": "Ours"},
}
"""Another value for each key that leaves the result as it is, bit for bit."""
ORDER_OF_SUMS = {"optim.micro_batches": 2, "trainer.devices": 2, "trainer.threads": 2, "trainer.compile": True}
"""Another value for each key that changes in which order numbers are added, and nothing else."""
TESTED_ELSEWHERE = {"trainer.strategy", "pattern.options", "data.reader", "data.corpus", "data.end_of_text"}
"""Keys that count beside others only: several devices (tests/training/test_many_devices.py), a pattern and a reader of
the user's own (tests/test_outside.py), a corpus without a path (tests/data/test_books.py), a tokenizer of one's own
(tests/data/test_tokenizers.py)."""


@pytest.fixture
def config(small_corpus):
    return RunConfig(
        model=ModelConfig(n_layer=3, n_head=2, n_embd=8, block_size=16),
        pattern=PatternConfig("sla", distance=1, heads=2),
        data=DataConfig(path=str(small_corpus), tokenizer="bytes", cache=str(small_corpus.parent / "cache")),
        optim=OptimConfig(steps=6, batch_size=4, warmup_steps=2),
        trainer=TrainerConfig(precision="fp32"),
    )


def keys(config, prefix=""):
    for field in fields(config):
        value = getattr(config, field.name)
        yield from keys(value, f"{prefix}{field.name}.") if is_dataclass(value) else [f"{prefix}{field.name}"]


def with_value(config, key, value):
    other = copy.deepcopy(config)
    section, _, name = key.rpartition(".")
    setattr(getattr(other, section) if section else other, name, value)
    return other


def test_every_key_is_of_one_kind():
    kinds = [IDENTIFYING, PATTERNS, WITHOUT_EFFECT, ORDER_OF_SUMS, TESTED_ELSEWHERE]
    assert sorted(key for kind in kinds for key in kind) == sorted(keys(RunConfig()))


@pytest.mark.parametrize("key", IDENTIFYING)
def test_what_changes_the_result_changes_the_identity(config, key, tmp_path):
    config.data.vocab_size = 280
    if key == "data.vocab_size":
        config.data.tokenizer = "bpe"
    other = with_value(config, key, IDENTIFYING[key])
    if key.startswith("data."):
        documents = [json.loads(line) for line in Path(config.data.path).read_text().splitlines()]
        path = tmp_path / "corpus.jsonl"
        path.write_text(
            "".join(json.dumps({**d, "title": d["text"][::-1], "name": d["id"][::-1]}) + "\n" for d in documents)
        )
        config.data.path = str(path)
        other.data.path = str(path)
        if key == "data.path":
            (tmp_path / "other.jsonl").write_text(path.read_text().replace("law", "rule"))
            other.data.path = str(tmp_path / "other.jsonl")
        for each in (config, other):
            each.data.cache = str(tmp_path / "cache")
    ours, theirs = (identify(each, prepare(each.data, log=str).digest) for each in (config, other))
    assert ours.run_id != theirs.run_id
    assert ours.pairing != theirs.pairing
    assert (ours.setting != theirs.setting) == (key != "seed")


@pytest.mark.parametrize("key", PATTERNS)
def test_what_changes_the_tables_changes_the_run_but_not_its_pair(config, key):
    given, value = PATTERNS[key]
    config.pattern = PatternConfig(**{**asdict(config.pattern), **given})
    ours, theirs = (identify(each, "data") for each in (config, with_value(config, key, value)))
    assert ours.run_id != theirs.run_id
    assert (ours.pairing, ours.setting) == (theirs.pairing, theirs.setting)


def test_equal_tables_are_one_run_whatever_options_their_pattern_ignores(config):
    config.pattern = PatternConfig("baseline")
    baseline = identify(config, "data")
    for key in PATTERNS.keys() - {"pattern.name", "pattern.layer_types"}:
        assert identify(with_value(config, key, PATTERNS[key][1]), "data") == baseline


@pytest.mark.parametrize("key", [*WITHOUT_EFFECT, *ORDER_OF_SUMS])
def test_what_is_no_part_of_the_identity(config, key):
    value = {**WITHOUT_EFFECT, **ORDER_OF_SUMS}[key]
    assert identify(config, "data") == identify(with_value(config, key, value), "data")


def trained(config, output):
    """The result of a run that is carried out in this process."""
    config.output = str(output)
    digest = prepare(config.data, log=str).digest
    enter(config, digest)
    folder = output / config.sweep / identify(config, digest).run_id
    attempt(folder, Interruption(), Silence(""))
    assert yaml.safe_load((folder / "config.yaml").read_text()) == asdict(config)
    return read_record(folder)["results"]


def test_all_that_is_without_effect_at_once(config, tmp_path):
    """Bit for bit."""
    config.evaluation.tokens = 4000
    expected = trained(config, tmp_path / "one")
    validation = expected["validation"]
    assert max(validation["tokens"]) == 4000 // 16
    for of_class in expected["classes"].values():
        assert sum(sums["tokens"] for sums in of_class.values()) == sum(validation["tokens"])
        assert sum(sums["nll"] for sums in of_class.values()) == pytest.approx(sum(validation["nll"]), rel=1e-12)
    for key, value in WITHOUT_EFFECT.items():
        config = with_value(config, key, str(tmp_path / value) if key == "data.cache" else value)
    assert trained(config, tmp_path / "two") == expected


@pytest.mark.parametrize("key", ["optim.micro_batches", "trainer.threads"])
def test_another_order_of_sums_changes_the_result_by_rounding(config, tmp_path, key):
    """Devices are compared in tests/training/test_many_devices.py, compiled layers in test_compilation.py."""
    expected = trained(config, tmp_path / "one")
    result = trained(with_value(config, key, ORDER_OF_SUMS[key]), tmp_path / "two")
    assert result["validation"]["nll"] == pytest.approx(expected["validation"]["nll"], rel=1e-6)
