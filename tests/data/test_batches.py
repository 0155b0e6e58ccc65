from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sla_ablate.data.batches import DocumentWindows, TrainingBatches
from sla_ablate.errors import InputError

TOKENS = np.arange(1000, dtype=np.uint16)  # token = its offset, so a row shows where it was read
MASK = 2**64 - 1


def philox(key, counter):
    """Philox4x64-10 (Salmon et al. 2011), one block of four outputs; counter words low to high."""
    k0, k1 = key & MASK, key >> 64
    c0, c1, c2, c3 = counter
    for _ in range(10):
        p0, p1 = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (p1 >> 64) ^ c1 ^ k0, p1 & MASK, (p0 >> 64) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK, (k1 + 0xBB67AE8584CAA73B) & MASK
    return [c0, c1, c2, c3]


@pytest.mark.parametrize(("seed", "step"), [(0, 0), (1, 0), (7, 123_456), (2**70 + 3, 5)])
def test_rows_follow_the_published_generator(seed, step):
    batch = TrainingBatches(TOKENS, seed, batch_size=6, block_size=10)[step]
    # numpy advances the counter before each block, so the first is at 1
    draws = philox(seed, [1, step, 0, 0]) + philox(seed, [2, step, 0, 0])
    starts = [draw % (1000 - 10) for draw in draws[:6]]
    assert batch.dtype == torch.int64
    assert batch.tolist() == [list(range(start, start + 11)) for start in starts]


@given(
    seed=st.integers(0, 2**32),
    step=st.integers(0, 2**40),
    micro_batches=st.integers(1, 4),
    world_size=st.integers(1, 3),
    rows=st.integers(1, 3),
)
def test_ranks_and_micro_batches_slice_one_global_batch(seed, step, micro_batches, world_size, rows):
    batch_size = micro_batches * world_size * rows
    whole = TrainingBatches(TOKENS, seed, batch_size, 7)[step]
    slices = []
    for rank in range(world_size):
        batches = TrainingBatches(TOKENS, seed, batch_size, 7, micro_batches, rank, world_size)
        slices += [batches[step * micro_batches + m] for m in range(micro_batches)]
    assert all(part.shape == (rows, 8) for part in slices)
    assert torch.equal(torch.cat(slices), whole)


def test_starts_are_uniform_and_reach_both_ends():
    batches = TrainingBatches(np.arange(18), seed=3, batch_size=500, block_size=8)
    starts = torch.cat([batches[i][:, 0] for i in range(20)])
    counts = np.bincount(starts.numpy())
    assert len(counts) == 10  # offsets 0 to 9: the last row ends at token 17
    expected = 1000
    assert ((counts - expected) ** 2 / expected).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001


def test_seeds_and_steps_differ():
    first = [TrainingBatches(TOKENS, seed, 8, 4)[step] for seed in range(3) for step in range(3)]
    assert len({tuple(batch[:, 0].tolist()) for batch in first}) == 9


def test_uneven_batch_and_short_split_are_refused():
    with pytest.raises(InputError, match=r"batch_size 10 .* multiple of 6, such as 12"):
        TrainingBatches(TOKENS, 0, 10, 8, micro_batches=3, world_size=2)
    with pytest.raises(InputError, match=r"block_size 1000 is too long .* at most 999"):
        TrainingBatches(TOKENS, 0, 1, 1000)
    assert TrainingBatches(TOKENS, 0, 1, 999)[0].tolist() == [list(range(1000))]


EOT = 0


def shard(documents):
    """Token lists as a shard and its table."""
    tokens = np.array([t for document in documents for t in [*document, EOT]], dtype=np.uint16)
    sizes = [len(document) for document in documents]
    starts = [sum(sizes[:i]) + i for i in range(len(sizes))]
    return tokens, pd.DataFrame({"tokens": sizes, "start": starts})


@st.composite
def windowings(draw):
    """Block size and stride."""
    block_size = draw(st.integers(1, 8))
    return block_size, draw(st.integers(1, block_size))


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 23), min_size=1, max_size=6),
    windowing=windowings(),
    batch_size=st.integers(1, 5),
)
def test_every_token_is_scored_once_with_its_own_context(sizes, windowing, batch_size):
    block_size, stride = windowing
    numbers = iter(range(1, 1000))  # every token is another
    documents = [[next(numbers) for _ in range(size)] for size in sizes]
    # Independent recount, token by token: the window that first reaches it starts at a multiple of the stride.
    expected = {}
    for d, document in enumerate(documents):
        text = [EOT, *document]
        for i, token in enumerate(document, start=1):
            start = next(s for s in range(0, len(text), stride) if s + block_size >= i)
            expected[token] = d, text[start:i]

    found = {}
    lengths = []
    windows = DocumentWindows(*shard(documents), EOT, block_size, stride)
    for inputs, targets, document in windows.batches(batch_size):
        assert inputs.dtype == targets.dtype == document.dtype == torch.int64
        assert inputs.shape == targets.shape and len(document) == len(inputs) <= batch_size
        for row_inputs, row_targets, d in zip(inputs.tolist(), targets.tolist(), document.tolist(), strict=True):
            for i, token in enumerate(row_targets):
                if token != -100:
                    assert token not in found
                    found[token] = d, row_inputs[: i + 1]
            n = max(i for i, token in enumerate(row_targets) if token != -100) + 1
            assert row_inputs[n:] == [EOT] * (len(row_inputs) - n)
            lengths.append(n)
        assert inputs.shape[1] == max(lengths[-len(inputs) :])
    assert found == expected
    assert all(
        len(context) in range(block_size - stride + 1, block_size + 1) or context[0] == EOT
        for _, context in found.values()
    )
    assert lengths == sorted(lengths, reverse=True)
    assert len(windows) == len(lengths)


def test_windows_do_not_overlap_by_default():
    documents = [[1, 2, 3, 4, 5, 6, 7]]
    default, separate = (DocumentWindows(*shard(documents), EOT, 3, stride) for stride in (None, 3))
    ((inputs, targets, _),) = default.batches(9)
    assert inputs.tolist() == [[EOT, 1, 2], [3, 4, 5], [6, EOT, EOT]]
    assert targets.tolist() == [[1, 2, 3], [4, 5, 6], [7, -100, -100]]
    assert all(torch.equal(a, b) for a, b in zip(*(next(w.batches(9)) for w in (default, separate)), strict=True))


@pytest.mark.parametrize("stride", [-1, 0, 9])
def test_an_impossible_stride_is_refused(stride):
    with pytest.raises(InputError, match=f"stride {stride} is out of range; choose 1 to 8"):
        DocumentWindows(*shard([[1, 2]]), EOT, 8, stride)


@settings(max_examples=50, deadline=None)
@given(
    documents=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=23), min_size=1, max_size=6),
    windowing=windowings(),
    batch_size=st.integers(1, 5),
)
def test_rolling_windows_are_those_of_lm_evaluation_harness(documents, windowing, batch_size):
    lm_eval = pytest.importorskip("lm_eval.utils")
    block_size, stride = windowing
    expected = Counter()
    for d, document in enumerate(documents):
        context_len = block_size - stride + 1
        for inputs, scored in lm_eval.get_rolling_token_windows(document, EOT, block_size, context_len):
            expected[d, tuple(inputs), tuple(scored)] += 1

    found = Counter()
    windows = DocumentWindows(*shard(documents), EOT, block_size, stride, rolling=True)
    for inputs, targets, document in windows.batches(batch_size):
        for row_inputs, row_targets, d in zip(inputs.tolist(), targets.tolist(), document.tolist(), strict=True):
            scored = [i for i, target in enumerate(row_targets) if target != -100]
            end = scored[-1] + 1
            assert scored == list(range(scored[0], end))
            assert row_inputs[end:] == [EOT] * (len(row_inputs) - end)
            found[d, tuple(row_inputs[:end]), tuple(row_targets[scored[0] : end])] += 1
    assert found == expected
