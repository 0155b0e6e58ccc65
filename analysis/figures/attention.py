"""What runs attend to on the first window of their validation split, from their checkpoints."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from analysis.comparison import Record
from analysis.diversity.maps import Maps
from analysis.diversity.metrics.pairwise_jsd import row_divergences
from analysis.diversity.rows import stratified
from analysis.measure import N_MIN
from analysis.sweep_data import SweepData
from sla_ablate.model.capture import capture
from sla_ablate.model.evaluating import evaluating
from sla_ablate.runs.trained import data_of, load_model


@torch.no_grad()
def attention_maps(data: SweepData, record: Record) -> list[Maps]:
    """The maps of each layer."""
    folder = data.run_folder(record)
    model = load_model(folder)
    validation = data_of(folder).validation
    tokens = torch.from_numpy(validation[None, : model.config.block_size].astype(np.int64))
    with evaluating(model), capture(model) as captured:
        model.hidden_states(tokens)
    return [Maps(layer, call.queries[0], call.keys[0]) for layer, call in enumerate(captured.calls)]


def divergences(layers: list[Maps], rows: int) -> npt.NDArray[np.float64]:
    """JSD in nats of each pair of heads, of one layer or of two, [n, n] with n the heads of all `layers`.

    A mean over about so many rows, spread over the positions from `N_MIN` on; all layers must be of the same tokens.
    """
    joint = Maps(0, torch.cat([maps.q for maps in layers]), torch.cat([maps.k for maps in layers]))
    eligible = torch.arange(min(N_MIN, joint.n_tokens) - 1, joint.n_tokens)
    if rows < len(eligible):
        sample = stratified(eligible, rows, seed=0)
        pairs = sample.total(row_divergences(joint, sample.rows)) / len(eligible)
    else:
        pairs = row_divergences(joint, eligible).mean(1)
    n = len(joint.q)
    matrix = np.zeros((n, n))
    matrix[np.triu_indices(n, 1)] = pairs.clamp(min=0)
    return matrix + matrix.T


def pooled(maps: Maps, size: int) -> npt.NDArray[np.float64]:
    """The greatest probability in each square of s × s rows and keys, [H, P, P]; s such that P is at most `size`."""
    stride = -(-maps.n_tokens // size)
    squares = -(-maps.n_tokens // stride)
    result = torch.zeros(len(maps.q), squares, squares)
    for block in maps.blocks(1):
        for tile in block.tiles():
            keys = torch.arange(tile.keys.start, tile.keys.stop) // stride
            strip = torch.zeros(len(maps.q), len(block.rows), squares)
            strip.scatter_reduce_(2, keys.expand(tile.p.shape), tile.p.float(), "amax")
            rows = (block.rows // stride)[:, None]
            result.scatter_reduce_(1, rows.expand(strip.shape), strip, "amax")
    return result.double().numpy()
