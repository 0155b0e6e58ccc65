"""Differences at equal bytes of cache: to a baseline made so much narrower that it caches no more than the pattern."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from analysis.evidence import is_baseline
from analysis.items.baselines import Run, Siblings, nats_per_token
from analysis.statistics import Interval, paired_interval
from sla_ablate.items.lines import Line

_BYTES = "kv_cache_bytes_per_token"
_NOTHING = Interval(math.nan, math.nan, math.nan, 0)


class NarrowerBaselines:
    """The losses of baselines of several widths, trained alike."""

    def __init__(self, baselines: Iterable[Line]) -> None:
        self._siblings = Siblings(baselines, ("model.n_embd",))

    def delta(self, runs: Sequence[Run]) -> Interval:
        """Mean difference in nats per token, with its 95 % t-interval over seeds, NaN where it is not known.

        Between two widths that were measured the baseline's loss is taken to be linear in the logarithm of its bytes
        of cache; beyond them nothing is said.

        Args:
            runs: of one pattern and setting.
        """
        if not runs or is_baseline(runs[0]):
            return _NOTHING
        measured: dict[int, dict[int, float]] = {}
        for line in self._siblings.of(runs[0]):
            measured.setdefault(line["seed"], {})[line["cost"][_BYTES]] = nats_per_token(line)
        if len({size for losses in measured.values() for size in losses}) < 2:
            return _NOTHING
        deltas = []
        for run in runs:
            losses = sorted(measured.get(run["seed"], {}).items())
            sizes = [size for size, _ in losses]
            if sizes and sizes[0] <= run["cost"][_BYTES] <= sizes[-1]:
                at = np.interp(np.log(run["cost"][_BYTES]), np.log(sizes), [loss for _, loss in losses])
                deltas.append(nats_per_token(run) - float(at))
        return paired_interval(deltas) if deltas else _NOTHING
