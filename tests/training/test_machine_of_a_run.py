"""What a run asks of the machine, of machines that are made up."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import lightning
import pytest
import torch
from lightning.pytorch.accelerators import MPSAccelerator

from sla_ablate.config.machine import processor_name
from sla_ablate.config.schema import ModelConfig, OptimConfig, RunConfig
from sla_ablate.data.config import DataConfig
from sla_ablate.data.shards import prepare
from sla_ablate.processes.signals import Interruption
from sla_ablate.runs import ledger
from sla_ablate.runs.identity import identify, run_folder
from sla_ablate.runs.record import read_record
from sla_ablate.text.telling import Silence
from sla_ablate.training.attempt import attempt
from sla_ablate.training.machine import environment, keep_freed_memory


class Allocator:
    """The part of glibc's malloc/malloc.c that counts here: options -1 and -3 of mallopt."""

    def __init__(self, largest: int | None) -> None:
        self.largest = largest
        self.mmap, self.trim, self.adapts = 128 << 10, 128 << 10, True

    def mallopt(self, option: int, value: int) -> int:
        if option == -3:
            if self.largest is not None and value > self.largest:
                return 0
            self.mmap = value
        else:
            assert option == -1
            self.trim = value
        self.adapts = False
        return 1


@pytest.mark.parametrize(
    ("largest", "mmap", "trim", "adapts"),
    [
        (None, 2**31 - 1, 2**31 - 1, False),  # from 2.35 on
        (32 << 20, 32 << 20, 2**31 - 1, False),  # HEAP_MAX_SIZE / 2 before
        (512 << 10, 128 << 10, 128 << 10, True),  # that of 32 bits
    ],
)
def test_memory_is_kept_as_far_as_glibc_allows_and_else_left_alone(monkeypatch, largest, mmap, trim, adapts):
    allocator = Allocator(largest)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: allocator)
    keep_freed_memory()
    assert (allocator.mmap, allocator.trim, allocator.adapts) == (mmap, trim, adapts)


def test_without_glibc_memory_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    keep_freed_memory()


def test_apples_accelerator_is_not_picked(monkeypatch, tmp_path, small_corpus):
    """Lightning's own `auto` would; the device that is recorded is the one that the trainer gets."""
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = RunConfig(model=ModelConfig(2, 2, 16, 16), optim=OptimConfig(steps=2, warmup_steps=0))
    config.data = DataConfig(str(small_corpus), tokenizer="bytes", cache=str(small_corpus.parent / "cache"))
    config.output, config.trainer.precision = str(tmp_path), "fp32"
    digest = prepare(config.data).digest
    ledger.enter(config, digest)
    folder = run_folder(config, identify(config, digest))
    given = {}

    def trainer(**options):
        given.update(options)
        raise ZeroDivisionError

    monkeypatch.setattr(lightning, "Trainer", trainer)
    with pytest.raises(ZeroDivisionError):
        attempt(folder, Interruption(), Silence("run"))
    assert given["accelerator"] == read_record(folder)["environment"]["device"] == "cpu"


def test_a_run_that_two_kinds_of_processors_trained_is_of_neither_kind(monkeypatch):
    here = processor_name()
    for earlier, told in ((None, here), (here, here), ("VAX", f"VAX + {here}"), (f"VAX + {here}", f"VAX + {here}")):
        assert environment(RunConfig(), "cpu", "32-true", earlier)["processor"] == told
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    assert environment(RunConfig(), "cuda", "32-true", None)["processor"] == "NVIDIA H200"


def test_the_versions_are_those_of_all_that_is_required():
    versions = environment(RunConfig(), "cpu", "32-true", None)["versions"]
    assert versions["torch"] == torch.__version__
    assert versions.keys() >= {"sla-ablate", "lightning", "numpy", "tokenizers", "safetensors", "pyarrow", "hydra-core"}
    assert not versions.keys() & {"wandb", "pytest"}
