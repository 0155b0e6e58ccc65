"""Two processes that measure half of the sequences each know what one does that measures all."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from random_models import model_of, random_tokens

from analysis import HeadDiversity
from analysis.diversity.metric import Setting
from sla_ablate import SkipPattern
from sla_ablate.model.capture import capture


def results_of(tokens):
    model = model_of(SkipPattern.skip_layer(2, 3, distance=1, heads=1))
    metric = HeadDiversity(Setting(model.pattern, model.config.head_size, n_min=2))
    with torch.no_grad(), capture(model) as captured:
        model(tokens)
    metric.update(captured)
    return metric.compute()


def rank(index, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=index, world_size=2)
    torch.save(results_of(random_tokens(4, 12)[2 * index : 2 * index + 2]), folder / f"{index}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes(tmp_path):
    mp.spawn(rank, (tmp_path,), nprocs=2)
    expected = results_of(random_tokens(4, 12))
    for index in range(2):
        results = torch.load(tmp_path / f"{index}.pt")
        assert results.keys() == expected.keys()
        for name, value in expected.items():
            atol = 1e-5 if "effective_rank" in name else 1e-12
            torch.testing.assert_close(results[name], value, rtol=0, atol=atol, equal_nan=True, msg=name)
