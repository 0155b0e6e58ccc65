"""Weights out: Hugging Face's GPT-2 and a folder of our own."""

from __future__ import annotations

import json

import pytest
import torch
from random_models import model_of, random_tokens

from sla_ablate import GPT, SkipPattern
from sla_ablate.errors import InputError

PATTERN = SkipPattern.from_tables([[0, 0], [0, 1]], [[0, 0], [1, 0]])


def test_to_gpt2_and_back_is_the_same_model():
    model = model_of(PATTERN)
    weights = model.to_gpt2()
    again = GPT.from_gpt2(weights, PATTERN)
    tokens = random_tokens(2, 8)
    assert torch.equal(again(tokens), model(tokens))
    weights["transformer.wte.weight"].zero_()  # a copy
    assert torch.equal(again(tokens), model(tokens))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_no_model(tmp_path, value):
    model = model_of(PATTERN)
    with torch.no_grad():
        model.h[1].ln_1.weight[3] = value
    model.save(tmp_path)
    with pytest.raises(InputError, match=r"model\.safetensors: 'h\.1\.ln_1\.weight' is not finite"):
        GPT.load(tmp_path)


@pytest.mark.parametrize("bias", [True, False])
def test_transformers_loads_to_gpt2(bias):
    transformers = pytest.importorskip("transformers")
    ours = model_of(SkipPattern.baseline(2, 2), bias=bias)
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=11, n_positions=16, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
        )
    ).double().eval()  # fmt: skip
    theirs.load_state_dict(ours.to_gpt2(), strict=True)
    tokens = random_tokens(2, 16)
    torch.testing.assert_close(theirs(tokens).logits, ours(tokens), rtol=0, atol=1e-12)


def test_rotary_positions_have_no_counterpart_in_gpt2():
    with pytest.raises(InputError, match="positions=rotary"):
        model_of(PATTERN, positions="rotary").to_gpt2()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_save_and_load_is_the_same_model(tmp_path, dtype):
    model = model_of(PATTERN, positions="rotary", rotary_base=500.0, bias=False).to(dtype)
    model.save(tmp_path / "new")
    again = GPT.load(str(tmp_path / "new")).eval()
    assert again.config == model.config
    assert again.pattern == model.pattern
    tokens = random_tokens(2, 8)
    assert torch.equal(again(tokens), model(tokens))


def spoil_unsealed(folder):
    """As an earlier version wrote it."""
    edit(folder, weights_sha256=None)
    (folder / "model.safetensors").write_bytes(b"pickle")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json does not exist"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors does not exist"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"pickle"), "do not belong together"),
        (lambda folder: spoil_unsealed(folder), "is no safetensors file"),
        (lambda folder: (folder / "config.json").write_text("{}"), "is not one that GPT.save wrote.*key_source"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not one that GPT.save wrote"),
        (lambda folder: edit(folder, n_embd=4), r"wte.weight. is \(11, 8\) but the model needs \(11, 4\)"),
        (lambda folder: edit(folder, n_heads=2), "n_heads"),
    ],
)
def test_a_folder_that_cannot_be_loaded_is_named(tmp_path, spoil, message):
    model_of(PATTERN).save(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=message):
        GPT.load(tmp_path)


def edit(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))
