from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sla_ablate import GPT, GPTConfig, SkipPattern
from sla_ablate.errors import InputError

TINY = GPTConfig(n_layer=4, n_head=4, n_embd=32, block_size=16, vocab_size=50)


def weights_of(oracle):
    return {name.removeprefix("weights/"): a for name, a in oracle.items() if name.startswith("weights/")}


def gpt_of(oracle):
    return GPT.from_gpt2(weights_of(oracle), SkipPattern.from_tables(oracle["key_source"], oracle["value_source"]))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_logits_agree_with_the_oracle(oracle, dtype, tolerance):
    logits = gpt_of(oracle).to(dtype)(torch.as_tensor(oracle["tokens"]))
    expected = torch.as_tensor(oracle["logits"]).to(dtype)
    torch.testing.assert_close(logits, expected, rtol=0, atol=tolerance)


def test_losses_agree_with_the_oracle(oracle):
    model, tokens = gpt_of(oracle).double(), torch.as_tensor(oracle["tokens"])
    log_p = torch.as_tensor(oracle["logits"])[:, :-1].log_softmax(-1)
    expected = -log_p.gather(-1, tokens[:, 1:, None])[..., 0]
    torch.testing.assert_close(model.nll(tokens[:, :-1], tokens[:, 1:]), expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(model(tokens[:, :-1], tokens[:, 1:]), expected.mean(), rtol=0, atol=1e-9)


def test_baseline_agrees_with_hugging_face_gradients_included():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=50, n_positions=16, n_embd=32, n_layer=3, n_head=2, bos_token_id=0, eos_token_id=0,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )
    ).double()  # fmt: skip
    ours = GPT.from_gpt2(theirs.state_dict(), SkipPattern.baseline(3, 2))
    tokens = torch.randint(50, (2, 16))
    torch.testing.assert_close(ours(tokens), theirs(tokens).logits, rtol=0, atol=1e-12)

    ours(tokens[:, :-1], tokens[:, 1:]).backward()
    logits = theirs(tokens[:, :-1]).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
    grads = {name: p.grad for name, p in theirs.transformer.named_parameters()}
    for name, parameter in ours.named_parameters():
        conv1d = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        expected = grads[name].T if conv1d else grads[name]
        torch.testing.assert_close(parameter.grad, expected, rtol=0, atol=1e-12, msg=name)


def test_skip_pattern_gradients_by_finite_differences():
    pattern = SkipPattern.from_tables([[0, 0], [0, 1], [1, 0]], [[0, 0], [1, 0], [0, 2]])
    model = GPT(GPTConfig(n_layer=3, n_head=2, n_embd=4, block_size=5, vocab_size=7), pattern).double()
    tokens, targets = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[2, 3, 4, 5]])
    names, parameters = zip(*model.named_parameters(), strict=True)

    def loss(*values):
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (tokens, targets))

    torch.autograd.gradcheck(loss, parameters, fast_mode=True)


def test_one_attention_call_a_layer_whatever_the_pattern(monkeypatch):
    from sla_ablate.model import transformer

    shapes = []
    attention = transformer.causal_attention
    monkeypatch.setattr(
        transformer,
        "causal_attention",
        lambda q, k, v, p: shapes.append((q.shape, k.shape, v.shape)) or attention(q, k, v, p),
    )
    for pattern in (SkipPattern.baseline(4, 4), SkipPattern.window(4, 4, 3, 3)):
        shapes.clear()
        GPT(TINY, pattern)(torch.zeros(2, 10, dtype=torch.long))
        assert shapes == [((2, 4, 10, 8),) * 3] * 4


def test_same_seed_same_initial_weights_for_every_pattern():
    states = []
    for pattern in (
        SkipPattern.baseline(4, 4),
        SkipPattern.skip_layer(4, 4, 2, 3),
        SkipPattern.window(4, 4, 3, 4),
    ):
        model = GPT(TINY, pattern)
        model.init_weights(7)
        states.append(model.state_dict())
    for a, b in itertools.pairwise(states):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_initialisation_is_gpt2s():
    model = GPT(GPTConfig(n_layer=8, n_head=4, n_embd=128, block_size=64, vocab_size=1000))
    expected = 0.02 / np.sqrt(16)
    assert model.wte.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert model.h[0].attn.c_attn.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert model.h[3].mlp.c_proj.weight.std().item() == pytest.approx(expected, rel=0.02)
    assert model.h[3].attn.c_proj.weight.std().item() == pytest.approx(expected, rel=0.02)
    assert model.h[0].ln_1.weight.eq(1).all()
    assert model.h[0].attn.c_attn.bias.eq(0).all()


def test_without_biases():
    model = GPT(GPTConfig(n_layer=2, n_head=2, n_embd=8, block_size=4, vocab_size=9, bias=False))
    assert not [name for name, _ in model.named_parameters() if name.endswith("bias")]
    assert model(torch.zeros(1, 4, dtype=torch.long)).shape == (1, 4, 9)


def test_dropout_acts_in_training_only():
    model = GPT(GPTConfig(n_layer=2, n_head=2, n_embd=8, block_size=4, vocab_size=9, dropout=0.5))
    tokens = torch.zeros(1, 4, dtype=torch.long)
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda w: w.pop("transformer.wpe.weight"), "no 'wpe.weight'"),
        (lambda w: w.pop("transformer.h.1.mlp.c_fc.bias"), "no 'h.1.mlp.c_fc.bias'"),
        (lambda w: w.update({"transformer.h.0.extra": np.zeros(3)}), "'h.0.extra'"),
        (lambda w: w.update({"transformer.ln_f.weight": np.zeros(3)}), r"'ln_f.weight' is \(3,\).*\(32,\)"),
    ],
)
def test_wrong_weights_are_named(spoil, message):
    weights = GPT(TINY).to_gpt2()
    spoil(weights)
    with pytest.raises(InputError, match=message):
        GPT.from_gpt2(weights, SkipPattern.baseline(4, 4))


def test_weights_from_a_folder_and_a_file(oracle, tmp_path):
    save_file({name: torch.as_tensor(a) for name, a in weights_of(oracle).items()}, tmp_path / "model.safetensors")
    pattern = SkipPattern.from_tables(oracle["key_source"], oracle["value_source"])
    expected = gpt_of(oracle)(torch.as_tensor(oracle["tokens"]))
    for path in (tmp_path, tmp_path / "model.safetensors", str(tmp_path)):
        assert torch.equal(GPT.from_gpt2(path, pattern)(torch.as_tensor(oracle["tokens"])), expected)
    n_head, n_embd = pattern.n_head, len(oracle["weights/transformer.ln_f.weight"])
    with pytest.raises(InputError, match=f"n_embd={n_embd} is not made of heads 64 wide; give a pattern"):
        GPT.from_gpt2(tmp_path)
    (tmp_path / "config.json").write_text(f'{{"n_head": {n_head}}}')
    assert GPT.from_gpt2(tmp_path).config.n_head == n_head
    with pytest.raises(InputError, match=f"the pattern has 1 heads a layer, config.json n_head={n_head}"):
        GPT.from_gpt2(tmp_path, SkipPattern.baseline(pattern.n_layer, 1))
    for text in ("{", "[1]", '"\xff"'):
        (tmp_path / "config.json").write_text(text, encoding="latin-1")
        with pytest.raises(InputError, match=r"config\.json is no configuration of a GPT-2"):
            GPT.from_gpt2(tmp_path)
    with pytest.raises(InputError, match=r"nothing does not exist"):
        GPT.from_gpt2(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("key", "value"),
    [("activation_function", "relu"), ("layer_norm_epsilon", 1e-2), ("scale_attn_by_inverse_layer_idx", True)],
)
def test_gpt2_configurations_that_compute_something_else_are_refused(key, value, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=9, n_positions=4, n_embd=8, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    assert GPT.from_gpt2(tmp_path).config.n_head == 2
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(InputError, match=f"{key}={value} is not supported"):
        GPT.from_gpt2(tmp_path)


def test_heads_are_64_wide_where_nothing_tells_their_number():
    model = GPT(GPTConfig(n_layer=1, n_head=2, n_embd=128, block_size=8, vocab_size=9))
    assert GPT.from_gpt2(model.to_gpt2()).config == model.config


def test_evaluation_leaves_every_module_in_its_mode():
    model = GPT(TINY).train()
    model.h[0].eval()
    model.generate(torch.zeros(1, 1, dtype=torch.long), 1)
    assert model.training
    assert model.h[1].mlp.training
    assert not model.h[0].training
    assert not model.h[0].mlp.training


def test_an_output_layer_of_its_own_and_a_broken_file_are_refused(tmp_path):
    weights = GPT(TINY).to_gpt2()
    with pytest.raises(InputError, match=r"'lm_head\.weight' differs"):
        GPT.from_gpt2({**weights, "lm_head.weight": weights["lm_head.weight"] + 1})
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="is no safetensors file"):
        GPT.from_gpt2(tmp_path)


def test_impossible_shapes_are_refused():
    with pytest.raises(InputError, match=r"n_embd=10.*n_head=4.*nearest possible width 8"):
        GPTConfig(n_head=4, n_embd=10)
    with pytest.raises(InputError, match="pattern is for 3 layers × 4 heads, the model has 4 × 4"):
        GPT(TINY, SkipPattern.baseline(3, 4))
    for token in (-1, 50):
        with pytest.raises(InputError, match=f"token {token} is none of the vocabulary's, 0 to 49"):
            GPT(TINY)(torch.tensor([[0, token]]))
    with pytest.raises(InputError, match="17 tokens do not fit into the block size of 16"):
        GPT(TINY)(torch.zeros(1, 17, dtype=torch.long))
