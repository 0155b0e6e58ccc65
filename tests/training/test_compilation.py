"""Layers compiled and recomputed one by one: the same loss and gradients, few compilations, less memory."""

from __future__ import annotations

import _ctypes
import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from random_models import FAMILY, model_of, random_tokens
from torch import nn

from sla_ablate import GPT, GPTConfig, SkipPattern
from sla_ablate.commands import main
from sla_ablate.model.transformer import Block
from sla_ablate.training import compilation
from sla_ablate.training.compilation import compile_blocks

L, H = 12, 4


@pytest.fixture
def compilations(monkeypatch):
    """The graphs that were compiled, by a backend that runs them as they are."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(Block, "compile", lambda block: nn.Module.compile(block, backend=backend))
    torch._dynamo.reset()
    yield graphs
    torch._dynamo.reset()


def gradients(model, tokens):
    model.zero_grad()
    model(tokens[:, :-1], tokens[:, 1:]).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    ("pattern", "kinds"),
    [
        (SkipPattern.baseline(L, H), 1),
        (SkipPattern.skip_layer(L, H, 9, 3), 3),  # the layers that lend, those that borrow, and those between
        (SkipPattern.cross_layer(L, H), 2),
        (SkipPattern.random(L, H, 3, seed=0), L),
    ],
    ids=["baseline", "sla", "cla", "random"],
)
def test_layers_that_are_alike_are_compiled_once(compilations, tmp_path, monkeypatch, pattern, kinds):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.manual_seed(0)
    model, tokens = GPT(GPTConfig(L, H, 16, 16, 11), pattern), random_tokens(2, 9)
    eager = gradients(model, tokens)
    compile_blocks(model, print)
    for _ in range(2):
        for name, gradient in gradients(model, tokens).items():
            torch.testing.assert_close(gradient, eager[name], msg=name)
    trained = len(compilations)
    assert 1 <= trained <= kinds
    model.nll(tokens[:, :5], tokens[:, :5])  # another length, without gradients
    model.generate(tokens[:, :3], 2)
    with torch.no_grad():
        model(tokens)  # not evaluated: compiled for what it is
    assert len(compilations) > trained


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", ["sla both first", "yoco both", "random both first"])
def test_recomputed_layers_give_the_same_gradients(name, dropout):
    model, tokens = model_of(FAMILY[name], dropout=dropout, positions="rotary").train(), random_tokens(2, 9)
    kept = []
    for model.checkpoint_activations in (False, True):
        torch.manual_seed(0)
        kept.append(gradients(model, tokens))
    assert all(torch.equal(kept[0][name], gradient) for name, gradient in kept[1].items())


def test_recomputed_layers_keep_less_for_the_backward_pass():
    """The bytes that autograd keeps, counted by PyTorch's own hooks."""
    model, tokens = GPT(GPTConfig(8, 4, 64, 64, 11), SkipPattern.skip_layer(8, 4, 4, 2)).train(), random_tokens(2, 64)
    sizes = []
    for model.checkpoint_activations in (False, True):
        kept = {}

        def pack(tensor, kept=kept):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(tokens, tokens)
        sizes.append(sum(kept.values()))
        loss.backward()
    everything, inputs = sizes
    assert inputs < everything / 4


def test_a_library_that_was_cut_off_is_found(tmp_path):
    """Wherever it was cut off; whole ones stay."""
    library = Path(_ctypes.__file__)
    size = library.stat().st_size
    shutil.copy(library, tmp_path / "whole.so")
    for length in (0, 40, 1000, size // 2, size - 1):
        (tmp_path / f"{length}.so").write_bytes(library.read_bytes()[:length])
    old = time.time() - 60
    for path in tmp_path.iterdir():
        os.utime(path, (old, old))
    (tmp_path / "gone.so").symlink_to(tmp_path / "removed by another run")
    broken = compilation._truncated_libraries(tmp_path, print)
    assert sorted(path.name for path in broken) == sorted(f"{n}.so" for n in (0, 40, 1000, size // 2, size - 1))


@pytest.mark.slow
def test_a_run_whose_compiler_was_killed_compiles_afresh(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))

    def train(sweep, *options):
        arguments = ["scale=smoke", "data=sotu_bytes", "model.n_layer=1", "trainer.precision=fp32", f"sweep={sweep}"]
        with pytest.raises(SystemExit) as end:
            main(["train", *arguments, "optim.steps=3", "optim.warmup_steps=1", *options])
        assert end.value.code == 0
        (results,) = tmp_path.glob(f"runs/{sweep}/*/results.json")
        return json.loads(results.read_text())["validation"]["nll"], capfd.readouterr().out

    eager, _ = train("eager")
    (tmp_path / "cache" / "aa").mkdir(parents=True)
    (tmp_path / "cache" / "aa" / "cut.so").write_bytes(b"\x7fELF")
    compiled, said = train("compiled", "trainer.compile=true")
    assert "1 compiled file(s)" in said
    assert not (tmp_path / "cache" / "aa" / "cut.so").exists()
    assert list((tmp_path / "cache").rglob("*.so"))
    assert compiled == pytest.approx(eager, rel=1e-4)
