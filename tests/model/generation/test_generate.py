"""Generation with a cache is generation without one."""

from __future__ import annotations

import os
import subprocess
import sys

import hypothesis.strategies as st
import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from random_models import FAMILY, model_of, models, random_tokens

from sla_ablate import GPT, GPTConfig, SkipPattern
from sla_ablate.errors import InputError
from sla_ablate.model import decode, kernels
from sla_ablate.model.compiled_decode import CompiledDecoder, array
from sla_ablate.model.config import POSITIONS
from sla_ablate.model.decode import Decoder
from sla_ablate.model.generation.cache import KVCache
from sla_ablate.model.generation.generate import FEWEST_STEPS_TO_COMPILE, decoder_for, sample
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
    from sla_ablate.model import generate

    seen = []
    monkeypatch.setattr(generate, "sample", lambda logits, *options: seen.append(logits) or sample(logits, *options))
    return seen


@pytest.mark.parametrize("new", [16, 40])
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("name", FAMILY)
def test_every_pattern_goes_on_as_without_a_cache(monkeypatch, name, positions, new):
    """In a block size of 8: the context is cut several times on the way. 40 tokens are worth the compiled step."""
    model = model_of(FAMILY[name], positions=positions, block_size=8)
    prompt = random_tokens(1, 5)
    seen = spy_on_logits(monkeypatch)
    out = model.generate(prompt, new, temperature=0)
    tokens, logits = greedy_without_cache(model, prompt[0], new)
    torch.testing.assert_close(torch.cat(seen), logits, rtol=0, atol=1e-10)
    assert torch.equal(out[0], tokens)


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


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("name", FAMILY)
def test_every_pattern_gives_the_logits_of_one_pass_in_chunks_and_in_steps(name, positions):
    model, tokens = model_of(FAMILY[name], positions=positions), random_tokens(2, 12)
    decoder, steps, chunks = Decoder(model), KVCache(model, 2, 12), KVCache(model, 2, 12)
    with torch.no_grad():
        whole = model(tokens)
        stepped = torch.stack([decoder(tokens[:, t], steps) for t in range(12)], 1)
        chunked = torch.cat([model(chunk, cache=chunks) for chunk in tokens.split([4, 1, 5, 2], dim=1)], 1)
    torch.testing.assert_close(stepped, whole, rtol=0, atol=1e-10)
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-10)


@PROPERTY
@given(models(), st.integers(1, 3), st.booleans(), st.data())
def test_chunks_and_steps_in_any_order_give_the_logits_of_one_pass(model, B, compiled, data):
    T, B = data.draw(st.integers(1, 14)), 1 if compiled else B
    tokens = random_tokens(B, T)
    cache, decoder, out = KVCache(model, B, T), (CompiledDecoder if compiled else Decoder)(model), []
    with torch.no_grad():
        while cache.length < T:
            a = cache.length
            if data.draw(st.booleans()):
                out.append(decoder(tokens[:, a], cache)[:, None])
            else:
                out.append(model(tokens[:, a : data.draw(st.integers(a + 1, T))], cache=cache))
        torch.testing.assert_close(torch.cat(out, 1), model(tokens), rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("decoder_type", [Decoder, CompiledDecoder])
@pytest.mark.parametrize("pattern", [BASELINE, SLA, YOCO], ids=["baseline", "sla", "yoco"])
def test_steps_in_single_and_half_precision(pattern, decoder_type, dtype):
    """As close to float64 as the forward pass is, but for a factor; compiled ones in bfloat16, in float32, closer."""
    exact = model_of(pattern, head_size=16, positions="rotary")
    model = model_of(pattern, head_size=16, positions="rotary").to(dtype)
    tokens = random_tokens(1, 16)
    decoder, cache = decoder_type(model), KVCache(model, 1, 16)
    with torch.no_grad():
        exact.load_state_dict(model.state_dict())
        reference = exact(tokens)
        stepped = torch.stack([decoder(tokens[:, t], cache) for t in range(16)], 1)
        error, usual = (stepped - reference).abs().max(), (model(tokens) - reference).abs().max()
    assert error < (1 if decoder_type is CompiledDecoder and dtype == torch.bfloat16 else 3) * usual + 1e-6


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (64, 3), (70, 128), (257, 65)])
def test_the_compiled_product_is_the_linear_layer(rows, columns, dtype, threads):
    generator = torch.Generator().manual_seed(0)
    W, b = (torch.randn(s, generator=generator).to(dtype) for s in ((rows, columns), (rows,)))
    number = torch.promote_types(dtype, torch.float32)
    x, y = (torch.randn(n, generator=generator, dtype=number) for n in (columns, rows))
    expected = y.double() + torch.nn.functional.linear(x.double(), W.double(), b.double())
    kernels.add_product(y.numpy(), (array(W), array(b)), x.numpy(), threads)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=tolerance)


def test_the_compiled_step_rounds_to_bfloat16_as_pytorch_does():
    numbers = torch.randn(4096, generator=torch.Generator().manual_seed(0))
    ties = numbers.bfloat16().float().view(torch.int32) + 0x8000  # halfway between two, of which the even one counts
    for x in (numbers, ties.view(torch.float32)):
        bits = np.empty(len(x), np.uint16)
        narrow_all(x.numpy(), bits)
        assert np.array_equal(bits, array(x.bfloat16()))


@numba.njit
def narrow_all(x, out):
    for i in range(len(x)):
        out[i] = kernels.narrow(x[i], out[i])


@numba.njit
def exp_all(x, out):
    for i in range(len(x)):
        out[i] = kernels.exp(x[i])


@pytest.mark.parametrize(("dtype", "precision"), [(np.float32, 1e-7), (np.float64, 1e-16)])
def test_the_compiled_exponential(dtype, precision):
    """The product x · log2(e) is rounded, so the relative error grows with x."""
    x = -np.linspace(0, 200, 20_001, dtype=dtype)
    out, exact = np.empty_like(x), np.exp(x.astype(np.float64))
    exp_all(x, out)
    assert (np.abs(out - exact) <= (2 - x) * precision * exact + 2e-38).all()  # float32 has little below


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 7, 8, 9, 100])
def test_the_compiled_attention_is_pytorchs(length, dtype):
    """Of heads that read slots in any order, in a cache with room for more; here with large scores."""
    generator = torch.Generator().manual_seed(length)
    slots = torch.randn(5, 120, 6, generator=generator).to(dtype)
    number = torch.promote_types(dtype, torch.float32)
    q = 8 * torch.randn(3, 6, generator=generator, dtype=number)
    keys, values = np.array([4, 0, 0]), np.array([1, 1, 3])
    k, v = (slots[x, :length].double() for x in (keys, values))
    expected = torch.nn.functional.scaled_dot_product_attention(q.double()[:, None], k, v)[:, 0]
    for threads in (1, 2):
        y = kernels.attend(q.numpy(), array(slots), keys, values, length, threads)
        torch.testing.assert_close(
            torch.from_numpy(y).double(), expected, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-5
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_compiled_activation_is_pytorchs(dtype):
    x = torch.linspace(-300, 300, 6001, dtype=dtype)
    expected = torch.nn.functional.gelu(x.double(), approximate="tanh")
    kernels.gelu(x.numpy())
    torch.testing.assert_close(x.double(), expected, rtol=3e-7 if dtype == torch.float32 else 1e-14, atol=1e-7)


def test_threads_give_the_same_logits_and_stay_as_many():
    model, threads = model_of(SLA, positions="rotary"), torch.get_num_threads()
    logits = []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            decoder, cache = CompiledDecoder(model), KVCache(model, 1, 8)
            with torch.no_grad():
                logits.append(torch.cat([decoder(token, cache) for token in random_tokens(1, 8).T]))
            assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(*logits, rtol=0, atol=1e-12)


def test_only_what_it_can_read_and_what_is_long_enough_is_compiled():
    model = model_of(SLA)
    assert isinstance(decoder_for(model, 1, FEWEST_STEPS_TO_COMPILE), CompiledDecoder)
    assert isinstance(decoder_for(model, 1, FEWEST_STEPS_TO_COMPILE - 1), Decoder)
    assert isinstance(decoder_for(model, 2, FEWEST_STEPS_TO_COMPILE), Decoder)
    assert isinstance(decoder_for(model.half(), 1, FEWEST_STEPS_TO_COMPILE), Decoder)


def test_without_a_folder_to_keep_the_compiled_step_in_it_is_compiled_anew():
    code = "from sla_ablate.model import kernels; kernels.gelu(__import__('numpy').ones(3)); print('done')"
    environment = {**os.environ, "NUMBA_CACHE_DIR": os.devnull + "/none"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert run.stdout == "done\n", run.stderr


@pytest.mark.parametrize("name", FAMILY)
def test_the_cache_is_as_large_as_its_costs(name):
    pattern = FAMILY[name]
    config = GPTConfig(pattern.n_layer, pattern.n_head, 32, 16, 11)
    expected = costs(config, pattern).kv_cache_bytes_per_token * 16 * 3  # B = 3
    assert KVCache(GPT(config, pattern).bfloat16(), 3, 16).nbytes == expected
    assert KVCache(GPT(config, pattern).double(), 3, 16).nbytes == expected * 4


def test_decoding_reads_the_cache_where_it_lies(monkeypatch):
    """No attention call gets a copy of cached keys or values, whatever the pattern."""
    storages = set()
    attention = torch.nn.functional.scaled_dot_product_attention

    def spy(q, k, v, *rest):
        storages.update(x.untyped_storage().data_ptr() for x in (k, v))
        return attention(q, k, v, *rest)

    monkeypatch.setattr(decode.F, "scaled_dot_product_attention", spy)
    for pattern in FAMILY.values():
        model = model_of(pattern)
        cache = KVCache(model, 1, 16)
        with torch.no_grad():
            Decoder(model)(torch.tensor([3]), cache)
        assert storages == {cache.slots.untyped_storage().data_ptr()}
        storages.clear()


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
    cache = KVCache(model, 1, 4)
    model(torch.zeros(1, 3, dtype=torch.long), cache=cache)
    with pytest.raises(InputError, match="5 tokens do not fit into a KV cache for 4"):
        model(torch.zeros(1, 2, dtype=torch.long), cache=cache)
    for decoder in (Decoder(model), CompiledDecoder(model)):
        cache.length = 4
        with torch.no_grad(), pytest.raises(InputError, match="5 tokens do not fit into a KV cache for 4"):
            decoder(torch.zeros(1, dtype=torch.long), cache)


def test_a_cache_of_float32_under_autocast():
    model = GPT(GPTConfig(n_layer=2, n_head=2, n_embd=16, block_size=8, vocab_size=9)).eval()
    tokens = torch.randint(9, (1, 8), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        cache = KVCache(model, 1, 8)
        chunks = torch.cat([model(chunk, cache=cache) for chunk in tokens.split(4, dim=1)], dim=1)
        torch.testing.assert_close(chunks, model(tokens), rtol=0, atol=0.02)


def test_sampling_keeps_exactly_k_and_stands_any_temperature():
    logits = torch.tensor([[3.0, 3.0, 1.0]]).expand(200, 3)
    assert len(sample(logits, top_k=1).unique()) == 1
    for temperature in (1e-37, 1e-42, 1e-320):
        assert sample(torch.tensor([[1.0, 2.0]]), temperature).tolist() == [1]
    with pytest.raises(InputError, match="whole numbers"):
        GPT(GPTConfig(n_layer=1, n_head=1, n_embd=4, block_size=8, vocab_size=9)).generate(torch.ones(1, 2), 1)
