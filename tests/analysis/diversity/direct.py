"""The metrics of attention maps as their definitions read, from whole maps: NumPy and SciPy, row by row."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from analysis.diversity.maps import Maps


def softmax_maps(q, k):
    """[..., T, T] from queries and keys [..., T, d], float64."""
    q, k = (np.asarray(x.detach().double()) for x in (q, k))
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    scores[..., np.triu_indices(q.shape[-2], 1)[0], np.triu_indices(q.shape[-2], 1)[1]] = -np.inf
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def maps_of(A, layer=0):
    """Queries and keys whose maps are A [H, T, T]; zeros become 1e-300."""
    A = torch.as_tensor(A, dtype=torch.float64)
    T = A.shape[-1]
    return Maps(layer, A.clamp(min=1e-300).log() * T**0.5, torch.eye(T, dtype=torch.float64).expand_as(A))


def map_metrics(A, n_min):
    """Of the maps A [B, H, T, T] of one layer; means over the batch and the rows that see at least n_min keys."""
    A = np.asarray(A)[:, :, n_min - 1 :]  # [B, H, R, T]
    B, H, R, _ = A.shape
    i = np.arange(n_min - 1, n_min - 1 + R)
    rows = [(A[b, :, r], i[r]) for b in range(B) for r in range(R)]
    distances = [(p * (n - np.arange(p.shape[1]))).sum(1) for p, n in rows]
    sink_distances = [p[:, 0] * n for p, n in rows]
    previous = [p[:, n - 1] for p, n in rows if n > 0]
    bhattacharyya = np.mean([np.sqrt(p) @ np.sqrt(p).T for p, _ in rows], 0)
    beyond_sink = np.sum([1 - p[:, 0] for p, _ in rows], 0)
    eigenvalues = np.linalg.eigvalsh(bhattacharyya / H)
    return {
        "entropy": np.mean([entropy(p, axis=1) for p, _ in rows], 0),
        "normalised_entropy": np.mean([entropy(p, axis=1) / np.log(n + 1) if n else np.zeros(H) for p, n in rows], 0),
        "attention_distance": np.mean(distances, 0),
        "attention_distance_off_sink": np.divide(
            np.sum(distances, 0) - np.sum(sink_distances, 0), beyond_sink, np.full(H, np.nan), where=beyond_sink > 0
        ),
        "confidence": np.mean([p.max(1) for p, _ in rows], 0),
        "sink_mass": np.mean([p[:, 0] for p, _ in rows], 0),
        "previous_token": np.mean(previous, 0) if previous else np.full(H, np.nan),
        "generalised_jsd": np.mean([entropy(p.mean(0)) - entropy(p, axis=1).mean() for p, _ in rows]),
        "bhattacharyya": bhattacharyya,
        "effective_heads": np.exp(entropy(eigenvalues.clip(0))),
        "position_disagreement": -np.mean([(p @ p.T).mean() for p, _ in rows]),
        "pairwise_jsd": np.mean([[[_jsd(a, b) for a in p] for b in p] for p, _ in rows], 0),
    }


def _jsd(p, q):
    return 0.0 if np.array_equal(p, q) else np.nan_to_num(jensenshannon(p, q)) ** 2
