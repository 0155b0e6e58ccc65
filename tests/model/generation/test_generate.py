"""Generation with a cache is generation without one."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from random_models import FAMILY, model_of, models, random_tokens

from sla_ablate import GPT, GPTConfig, SkipPattern
from sla_ablate.errors import InputError
from sla_ablate.model import transformer
from sla_ablate.model.generation import generate
from sla_ablate.model.generation.generate import sample
from sla_ablate.patterns.costs import costs

BASELINE, SLA, YOCO = SkipPattern.baseline(6, 4), SkipPattern.skip_layer(6, 4, 3, 3), SkipPattern.yoco(6, 4)
PROPERTY = settings(max_examples=30, deadline=None)


def greedy_without_cache(model, prompt, n):
    """Tokens and their logits by the rule of `generate`, from whole forward passes over one row [T]."""
    tokens, context, logits = prompt.tolist(), prompt.tolist(), []
    for _ in range(n):
        if len(context) > model.config.block_size:
            context = context[-max(1, model.config.block_size // 2) :]
        with torch.no_grad():
            logits.append(model(torch.tensor([context]))[0, -1])
        tokens.append(int(logits[-1].argmax()))
        context.append(tokens[-1])
    return torch.tensor(tokens), torch.stack(logits)


def spy_on_logits(monkeypatch):
    """The logits that `generate` samples from, step by step."""
    seen = []
    monkeypatch.setattr(generate, "sample", lambda logits, *options: seen.append(logits) or sample(logits, *options))
    return seen


@pytest.mark.parametrize("name", FAMILY)
def test_every_pattern_goes_on_as_without_a_cache(monkeypatch, name):
    """In a block size of 8, so that the context is cut several times on the way."""
    new = 16
    model = model_of(FAMILY[name], block_size=8)
    prompt = random_tokens(1, 5)
    seen = spy_on_logits(monkeypatch)
    out = model.generate(prompt, new, temperature=0)
    tokens, logits = greedy_without_cache(model, prompt[0], new)
    torch.testing.assert_close(torch.cat(seen), logits, rtol=0, atol=1e-10)
    assert torch.equal(out[0], tokens)


@pytest.mark.parametrize("temperature", [0, 1])
def test_logits_that_are_no_numbers_give_no_token(temperature):
    model = model_of(BASELINE).float()
    with torch.no_grad():
        model.ln_f.weight.fill_(3e38)  # finite, and so are the hidden states of some tokens only
        model.wte.weight.mul_(1e3)
    with pytest.raises(InputError, match="the model's logits are not finite"):
        model.generate(random_tokens(2, 5), 3, temperature=temperature)


@PROPERTY
@given(models(), st.lists(st.integers(1, 20), min_size=1, max_size=4))
def test_rows_of_any_lengths_are_continued_as_alone(model, lengths):
    """Prompts longer than the block size, too."""
    prompts = [random_tokens(1, n, seed=n)[0] for n in lengths]
    with pytest.MonkeyPatch.context() as monkeypatch:
        seen = spy_on_logits(monkeypatch)
        out = model.generate(prompts, 12, temperature=0)
    for b, prompt in enumerate(prompts):
        tokens, logits = greedy_without_cache(model, prompt, 12)
        torch.testing.assert_close(torch.stack([step[b] for step in seen]), logits, rtol=0, atol=1e-10)
        assert torch.equal(out[b], tokens)


@pytest.mark.parametrize("name", FAMILY)
def test_every_pattern_gives_the_logits_of_one_pass_in_chunks_and_in_steps(name):
    model, tokens = model_of(FAMILY[name]), random_tokens(2, 12)
    steps, chunks = model.empty_cache(2, 12), model.empty_cache(2, 12)
    with torch.no_grad():
        whole = model(tokens)
        stepped = torch.cat([model(token, cache=steps) for token in tokens.split(1, dim=1)], 1)
        chunked = torch.cat([model(chunk, cache=chunks) for chunk in tokens.split([4, 1, 5, 2], dim=1)], 1)
    torch.testing.assert_close(stepped, whole, rtol=0, atol=1e-10)
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-10)


@PROPERTY
@given(models(), st.integers(1, 3), st.data())
def test_chunks_of_any_lengths_give_the_logits_of_one_pass(model, B, data):
    T = data.draw(st.integers(1, 14))
    tokens = random_tokens(B, T)
    cache, out = model.empty_cache(B, T), []
    with torch.no_grad():
        while cache.length < T:
            end = data.draw(st.integers(cache.length + 1, T))
            out.append(model(tokens[:, cache.length : end], cache=cache))
        torch.testing.assert_close(torch.cat(out, 1), model(tokens), rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pattern", [BASELINE, SLA, YOCO], ids=["baseline", "sla", "yoco"])
def test_steps_in_single_and_half_precision(pattern, dtype):
    """They are as close to float64 as the forward pass is, but for a factor."""
    exact = model_of(pattern, head_size=16, positions="rotary")
    model = model_of(pattern, head_size=16, positions="rotary").to(dtype)
    tokens = random_tokens(1, 16)
    cache = model.empty_cache(1, 16)
    with torch.no_grad():
        exact.load_state_dict(model.state_dict())
        reference = exact(tokens)
        stepped = torch.cat([model(token, cache=cache) for token in tokens.split(1, dim=1)], 1)
        error, usual = (stepped - reference).abs().max(), (model(tokens) - reference).abs().max()
    assert error < 3 * usual + 1e-6


@pytest.mark.parametrize("name", FAMILY)
def test_the_cache_is_as_large_as_its_costs(name):
    pattern = FAMILY[name]
    config = GPTConfig(pattern.n_layer, pattern.n_head, 32, 16, 11)
    expected = costs(config, pattern).kv_cache_bytes_per_token * 16 * 3  # B = 3
    assert GPT(config, pattern).bfloat16().empty_cache(3, 16).nbytes == expected
    assert GPT(config, pattern).double().empty_cache(3, 16).nbytes == expected * 4


def test_decoding_reads_the_cache_where_it_lies(monkeypatch):
    """No attention call gets a copy of cached keys or values where all heads of a layer read one layer."""
    seen = []
    attention = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        transformer.F,
        "scaled_dot_product_attention",
        lambda q, k, v, *rest: seen.append((k, v)) or attention(q, k, v, *rest),
    )
    for pattern in (BASELINE, YOCO):
        model = model_of(pattern)
        cache = model.empty_cache(1, 16)
        with torch.no_grad():
            for token in (3, 4):
                model(torch.tensor([[token]]), cache=cache)
        for layer, call in enumerate(seen[pattern.n_layer :]):
            room = cache.room(int(pattern.key_source[layer, 0]), 0)
            assert [x.data_ptr() for x in call] == [room.keys.data_ptr(), room.values.data_ptr()]
        seen.clear()


def test_sampling_follows_the_probabilities():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).expand(40_000, -1)
    generator = torch.Generator().manual_seed(0)

    def shares(**options):
        return sample(logits, generator=generator, **options).bincount(minlength=4) / len(logits)

    def expected(temperature=1.0, kept=4):
        p = (torch.tensor([2.0, 1.0, 0.0, -1.0]) / temperature).softmax(0)
        p[kept:] = 0
        return p / p.sum()

    near = {"rtol": 0, "atol": 0.01}  # four standard errors
    torch.testing.assert_close(shares(), expected(), **near)
    torch.testing.assert_close(shares(temperature=2.0), expected(2.0), **near)
    torch.testing.assert_close(shares(top_k=2), expected(kept=2), **near)
    torch.testing.assert_close(shares(top_k=9), expected(), **near)
    # p = 0.64, 0.24, 0.09, 0.03: the fewest tokens that have 0.7 together are two, for 0.9 they are three.
    torch.testing.assert_close(shares(top_p=0.7), expected(kept=2), **near)
    torch.testing.assert_close(shares(top_p=0.9), expected(kept=3), **near)
    torch.testing.assert_close(shares(top_p=1.0), expected(), **near)
    assert shares(top_p=1e-9)[0] == 1
    assert shares(temperature=0)[0] == 1


def test_top_p_takes_any_order_of_the_logits():
    logits = torch.tensor([[0.0, 2.0, -1.0, 1.0]] * 1000)
    assert set(sample(logits, top_p=0.7, generator=torch.Generator().manual_seed(0)).tolist()) == {1, 3}


def test_a_generator_makes_it_repeatable_and_the_model_stays_as_it_was():
    model = model_of(SLA, dropout=0.5).train()
    first, again, other = (
        model.generate(random_tokens(2, 4), 8, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert model.training
    assert not first.is_inference()  # may be trained on
    assert torch.equal(first[:, :4], random_tokens(2, 4))


def test_rows_stop_at_the_stop_token():
    model = model_of(YOCO)
    prompts = [random_tokens(1, n, seed=n)[0] for n in (3, 5, 4)]
    free = [
        row[len(prompt) :].tolist()
        for row, prompt in zip(model.generate(prompts, 10, temperature=0), prompts, strict=True)
    ]
    stop = free[0][2]
    stopped = model.generate(prompts, 10, temperature=0, stop_token=stop)
    ends = [row.index(stop) if stop in row else 10 for row in free]
    new = min(10, max(ends) + 1)
    for row, prompt, whole, end in zip(stopped, prompts, free, ends, strict=True):
        assert row[len(prompt) :].tolist() == whole[:end][:new] + [stop] * (new - end)
    assert model.generate(prompts[:1], 10, temperature=0, stop_token=stop)[0].tolist() == [
        *prompts[0].tolist(),
        *free[0][: free[0].index(stop) + 1],
    ]


def test_no_new_tokens():
    tokens = random_tokens(2, 3)
    assert torch.equal(model_of(SLA).generate(tokens, 0), tokens)


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        ([[1]], {"temperature": -1.0}, "temperature=-1.0"),
        ([[1]], {"temperature": float("nan")}, "temperature=nan"),
        ([[1]], {"top_k": 0}, "top_k=0"),
        ([[1]], {"top_p": 0.0}, "top_p=0.0"),
        ([[1]], {"top_p": 1.5}, "top_p=1.5"),
        ([[1]], {"max_new_tokens": -1}, "max_new_tokens=-1"),
        ([[1]], {"stop_token": 11}, "stop_token=11 is none of the vocabulary's, 0 to 10"),
        ([[1], [1, 11]], {}, "prompt 1 has token 11; the vocabulary's are 0 to 10"),
        ([[-1]], {}, "prompt 0 has token -1"),
        ([[1], []], {}, r"prompt 1 has shape \(0,\)"),
        ([], {}, "no prompt"),
        (torch.zeros(3, dtype=torch.long), {}, r"tokens of shape \(3,\) are no batch"),
    ],
)
def test_what_is_not_possible_is_named(tokens, options, message):
    if isinstance(tokens, list):
        tokens = [torch.tensor(row, dtype=torch.long) for row in tokens]
    with pytest.raises(InputError, match=message):
        model_of(BASELINE).generate(tokens, **{"max_new_tokens": 2, **options})


def test_a_prompt_is_read_without_what_only_its_last_token_needs():
    model = GPT(GPTConfig(n_layer=4, n_head=2, n_embd=16, block_size=12, vocab_size=9), SkipPattern.yoco(4, 2)).eval()
    tokens = torch.randint(9, (3, 7), generator=torch.Generator().manual_seed(0))
    widths = []
    model.h[3].mlp.register_forward_hook(lambda module, args, out: widths.append(out.shape[1]))
    with torch.inference_mode():
        last = model.hidden_states(tokens, last_only=True)
        torch.testing.assert_close(last, model.hidden_states(tokens)[:, -1:])
    assert widths == [1, 7]


def test_a_full_cache_is_refused():
    model = GPT(GPTConfig(n_layer=1, n_head=1, n_embd=4, block_size=8, vocab_size=9)).eval()
    cache = model.empty_cache(1, 4)
    model(torch.zeros(1, 3, dtype=torch.long), cache=cache)
    with pytest.raises(InputError, match="5 tokens do not fit into a KV cache for 4"):
        model(torch.zeros(1, 2, dtype=torch.long), cache=cache)


def test_a_cache_of_float32_under_autocast():
    model = GPT(GPTConfig(n_layer=2, n_head=2, n_embd=16, block_size=8, vocab_size=9)).eval()
    tokens = torch.randint(9, (1, 8), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        cache = model.empty_cache(1, 8)
        chunks = torch.cat([model(chunk, cache=cache) for chunk in tokens.split(4, dim=1)], dim=1)
        torch.testing.assert_close(chunks, model(tokens), rtol=0, atol=0.02)


def test_sampling_keeps_exactly_k_and_stands_any_temperature():
    logits = torch.tensor([[3.0, 3.0, 1.0]]).expand(200, 3)
    assert len(sample(logits, top_k=1).unique()) == 1
    for temperature in (1e-37, 1e-42, 1e-320):
        assert sample(torch.tensor([[1.0, 2.0]]), temperature).tolist() == [1]
    with pytest.raises(InputError, match="whole numbers"):
        GPT(GPTConfig(n_layer=1, n_head=1, n_embd=4, block_size=8, vocab_size=9)).generate(torch.ones(1, 2), 1)
