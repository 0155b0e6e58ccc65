"""All metrics of a model's heads, from one walk over its attention maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.wrappers.abstract import WrapperMetric

from analysis.diversity.induction import induction_scores
from analysis.diversity.metric import HeadMetric, Pass, PassMetric, Setting, TileMetric
from analysis.diversity.metrics import all_metrics
from analysis.diversity.roles import block_means, role_means
from sla_ablate.errors import InputError
from sla_ablate.model.capture import Captured, capture
from sla_ablate.model.evaluating import evaluating
from sla_ablate.model.gpt import GPT
from sla_ablate.training.machine import keep_freed_memory

Arrays = dict[str, npt.NDArray[np.float64]]


class HeadDiversity(WrapperMetric):
    """The metrics of the folder `metrics/`, sharing their tiles.

        metric = HeadDiversity.of(model)
        with capture(model) as captured:
            model(tokens)
        metric.update(captured)
        metric.compute()["generalised_jsd"]

    Sums add up over batches, merged metrics and ranks.

    Args:
        setting: whose heads are measured.
        more: metrics beside those of the folder.
    """

    def __init__(self, setting: Setting, more: Sequence[type[HeadMetric]] = ()) -> None:
        super().__init__()
        self.setting = setting
        self.metrics = [metric(setting) for metric in (*all_metrics(), *more)]
        self._moved_with_this = nn.ModuleList(self.metrics)

    @classmethod
    def of(
        cls, model: GPT, n_min: int = 16, query_rows: int | None = None, more: Sequence[type[HeadMetric]] = ()
    ) -> HeadDiversity:
        """The metrics of a model's heads, on its device; arguments as of `measure_heads`."""
        return cls(Setting(model.pattern, model.config.head_size, n_min, query_rows), more).to(model.device)

    @torch.no_grad()
    def update(self, captured: Captured, real: Tensor | None = None) -> None:
        """Add a batch, captured without a cache; `real` [B, T] tells tokens from padding."""
        pass_metrics = [metric for metric in self.metrics if isinstance(metric, PassMetric)]
        tile_metrics = [metric for metric in self.metrics if isinstance(metric, TileMetric)]
        for sequence in range(len(captured.calls[0].queries)):
            run = Pass.of(captured, sequence, None if real is None else real[sequence])
            for metric in pass_metrics:
                metric.update(run)
            for maps in run.maps:
                for block in maps.blocks(self.setting.n_min):
                    for tile in block.tiles():
                        for tile_metric in tile_metrics:
                            tile_metric.update(tile)

    def compute(self) -> dict[str, Tensor]:
        """Float64 results by name.

        A result [L, H] has means `_own` and `_skip` [L] over the heads of each role; a result [L, H, H] has means [L]
        over its pairs, `_off_diagonal`, `_own_own`, `_own_skip` and `_skip_skip`. Where it exists, `_by_position`
        [P, ...] has the same for the rows that see 2^b to 2^(b+1) - 1 keys, NaN where there are none.
        """
        results: dict[str, Tensor] = {}
        for metric in self.metrics:
            values = metric.compute()
            if taken := sorted(values.keys() & results.keys()):
                raise InputError(f"{type(metric).__name__} measures {taken[0]!r}, as another metric does")
            results |= values
            skip = metric.skip.to(metric.device)
            for name, shape in metric.shapes.items():
                means = {"LH": role_means, "LHH": block_means}.get(shape)
                if means and name in values:
                    results |= {f"{name}_{role}": mean for role, mean in means(values[name], skip).items()}
            with metric.sync_context():  # `compute` leaves the metric with its own rank's sums
                results |= {f"{name}_by_position": value for name, value in metric.by_position().items()}
        return {**results, "is_skip": skip.double()}

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        for metric in self.metrics:
            metric.reset()

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Add what another one has measured."""
        if not isinstance(incoming_state, HeadDiversity):
            raise TypeError(f"a HeadDiversity merges with another one, not with a {type(incoming_state).__name__}")
        for mine, theirs in zip(self.metrics, incoming_state.metrics, strict=True):
            mine.merge_state(theirs)
            mine._computed = None  # torchmetrics keeps what it computed before


@torch.no_grad()
def measure_heads(
    model: GPT,
    tokens: Tensor,
    n_min: int = 16,
    query_rows: int | None = None,
    more: Sequence[type[HeadMetric]] = (),
) -> Arrays:
    """Every metric of `HeadDiversity`, and `induction` on random tokens read twice.

    Args:
        model: the model, measured in evaluation mode and in the precision of its weights.
        tokens: [B, T], read one sequence at a time.
        n_min: rows that see fewer keys do not count.
        query_rows: rows a sequence from which pairwise divergence is estimated; None: all.
        more: metrics beside those of `HeadDiversity`.

    Returns:
        Float64 arrays by name; `HeadDiversity.compute` tells the shapes.

    Raises:
        InputError: no row sees `n_min` keys.
    """
    tokens = torch.as_tensor(tokens, device=model.device)
    T = tokens.shape[1]
    if not 1 <= n_min <= T:
        raise InputError(f"n_min={n_min} is not possible with {T} tokens; choose 1 to {T}")
    metric = HeadDiversity.of(model, n_min, query_rows, more)
    keep_freed_memory()  # else the C library has each tile's memory cleared anew, which takes longer than the metrics
    with evaluating(model):
        for sequence in tokens.split(1):
            with capture(model) as captured:
                model.hidden_states(sequence)
            metric.update(captured)
        results = metric.compute()
        if T > 1:
            results["induction"] = induction_scores(model, T // 2, min(4, len(tokens)))
    used = T.bit_length()  # buckets
    return {
        name: value[:used].cpu().numpy() if name.endswith("_by_position") else value.cpu().numpy()
        for name, value in results.items()
    }
