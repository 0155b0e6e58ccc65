from __future__ import annotations

import pytest
import torch
from random_models import model_of, random_tokens

from sla_ablate import GPTConfig, SkipPattern
from sla_ablate.errors import InputError
from sla_ablate.model.rotary import rotate, rotations


@pytest.mark.parametrize("base", [10000.0, 500.0])
def test_agrees_with_hugging_faces_llama(base):
    pytest.importorskip("transformers")
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    config = LlamaConfig(hidden_size=48, num_attention_heads=3)
    config.rope_parameters = {"rope_type": "default", "rope_theta": base}
    config.rope_theta = base  # the name in transformers 4
    q, k = (torch.randn(2, 3, 40, 16, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    positions = torch.arange(40) + 100
    theirs = apply_rotary_pos_emb(q, k, *LlamaRotaryEmbedding(config)(q, positions[None]))
    cos_sin = rotations(positions, 16, base, torch.float32)
    for x, expected in zip((q, k), theirs, strict=True):
        # An angle of 140 has an error of 1e-5 in float32, and they divide where we take a negative power.
        torch.testing.assert_close(rotate(x, *cos_sin), expected, rtol=0, atol=5e-5)


def test_scores_depend_on_distance_alone():
    q, k = (torch.randn(16, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    positions = torch.arange(50)
    turned_q, turned_k = (rotate(x.expand(50, -1), *rotations(positions, 16, 100.0, x.dtype)) for x in (q, k))
    scores = turned_q @ turned_k.T
    for distance in range(-49, 50):
        along = scores.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), rtol=0, atol=1e-12)
    assert scores[0].unique().numel() == 50


def test_a_skip_head_reads_keys_turned_by_their_own_layer_only():
    """Shifting all positions changes nothing; a second rotation of the read keys would."""
    pattern = SkipPattern.from_tables([[0, 0], [0, 1], [0, 1]])
    from sla_ablate.model import transformer

    model, tokens = model_of(pattern, positions="rotary"), random_tokens(2, 9)
    expected = model(tokens)
    shifted = lambda positions, *rest: rotations(positions + 5, *rest)  # noqa: E731
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(transformer, "rotations", shifted)
        torch.testing.assert_close(model(tokens), expected, rtol=0, atol=1e-10)
    assert not [name for name, _ in model.named_parameters() if "wpe" in name]


def test_tables_stay_precise_in_half_precision():
    cos, _ = rotations(torch.tensor([4095]), 64, 10000.0, torch.bfloat16)
    assert cos.dtype == torch.float32
    x = torch.ones(1, 64, dtype=torch.bfloat16)
    assert rotate(x, *rotations(torch.tensor([4095]), 64, 10000.0, x.dtype)).dtype == torch.bfloat16


def test_impossible_positions_are_refused():
    with pytest.raises(InputError, match=r"positions 'rotory' is unknown.*did you mean 'rotary'"):
        GPTConfig(positions="rotory")
    with pytest.raises(InputError, match="even width; n_embd / n_head is 3"):
        GPTConfig(n_head=2, n_embd=6, positions="rotary")
    with pytest.raises(InputError, match="rotary_base=0"):
        GPTConfig(rotary_base=0)
