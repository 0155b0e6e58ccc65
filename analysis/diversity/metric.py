"""What a metric is: float64 sums that add up over tiles, batches and ranks, and a formula over the sums."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric

from analysis.diversity.maps import Maps, Tile
from analysis.diversity.roles import skip_heads
from analysis.diversity.rows import BUCKETS
from sla_ablate.errors import InputError
from sla_ablate.model.capture import Captured
from sla_ablate.patterns import SkipPattern


@dataclass(frozen=True)
class Setting:
    """Whose heads are measured, and on which rows."""

    pattern: SkipPattern
    head_size: int
    n_min: int = 16
    """Rows that see fewer keys do not count."""
    query_rows: int | None = None
    """Rows a sequence that pairwise divergence is estimated from; None: all of them."""
    seed: int = 0
    """The seed of the choice of rows; give each rank its own."""

    def __post_init__(self) -> None:
        if self.n_min < 1:
            raise InputError(f"n_min={self.n_min} is not possible; choose 1 or more: every row sees itself")


@dataclass(frozen=True)
class Pass:
    """What the model did with one sequence; by layer."""

    maps: list[Maps]
    values: list[Tensor] = field(default_factory=list)
    """The values really attended to, [H, T, d]."""
    outputs: list[Tensor] = field(default_factory=list)
    """Head outputs o_h, [H, T, d]."""
    output_weights: list[Tensor] = field(default_factory=list)
    """W_O by heads, [H, d, C]."""
    stream: list[Tensor] = field(default_factory=list)
    """[T, C] before each layer and after the last."""

    @classmethod
    def of(cls, captured: Captured, sequence: int, real: Tensor | None = None) -> Pass:
        """One sequence of a captured batch, without its padding; `real` [T] tells tokens from padding."""
        kept: Any = slice(None) if real is None else real

        def wide(x: Tensor) -> Tensor:
            return x.to(torch.promote_types(x.dtype, torch.float32))

        calls = captured.calls
        return cls(
            maps=[Maps(i, c.queries[sequence][:, kept], c.keys[sequence][:, kept]) for i, c in enumerate(calls)],
            values=[wide(call.values[sequence][:, kept]) for call in calls],
            outputs=[wide(call.outputs[sequence][:, kept]) for call in calls],
            output_weights=[wide(weight) for weight in captured.output_weights],
            stream=[wide(x[sequence][kept]) for x in captured.stream],
        )


class HeadMetric(Metric):
    """Base of all metrics; states are float64 or int64 and stay so, whatever precision the model is cast to."""

    full_state_update = False
    shapes: ClassVar[dict[str, str]] = {}
    """What results have one of: "L" a layer, "LH" a head, "LHH" a pair of heads; the last two get means by role.

    "LLH" is the same head of two layers.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.setting = setting
        self.n_layer, self.n_head = setting.pattern.key_source.shape
        self.skip = torch.from_numpy(np.array(skip_heads(setting.pattern)))
        """[L, H]"""

    def add_sum(self, name: str, *shape: int, dtype: torch.dtype = torch.float64) -> None:
        """A state of zeros that is summed over ranks."""
        self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        # Follows a model to its device but not to its dtype, which `module.to(dtype)` would force on the states.
        return super()._apply(lambda state: state.to(fn(state.new_empty(0)).device), exclude_state)

    def _wrap_compute(self, compute: Callable[[], dict[str, Tensor]]) -> Callable[[], dict[str, Tensor]]:
        # torchmetrics makes scalars of all results with one element: those of one layer, or of one head.
        shapes: dict[str, torch.Size] = {}

        def remember_shapes() -> dict[str, Tensor]:
            results = compute()
            shapes.update({name: value.shape for name, value in results.items()})
            return results

        squeezed = super()._wrap_compute(functools.wraps(compute)(remember_shapes))
        return lambda: {name: value.reshape(shapes[name]) for name, value in squeezed().items()}

    @abstractmethod
    def compute(self) -> dict[str, Tensor]:
        """Named results in float64."""

    def by_position(self) -> dict[str, Tensor]:
        """The results for each bucket of positions, [P, ...]; none by default."""
        return {}


class PassMetric(HeadMetric):
    """A metric of whole passes: outputs, several layers, or a choice of rows of its own."""

    @abstractmethod
    def update(self, run: Pass) -> None:
        """Add one sequence."""


class TileMetric(HeadMetric):
    """A mean over rows of something that adds up over the keys of a row: write `shapes` and `sums`."""

    rows: Tensor

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        for name, shape in self.shapes.items():
            self.add_sum(name, BUCKETS, self.n_layer, *[self.n_head] * shape.count("H"))
        self.add_sum("rows", BUCKETS, self.n_layer, dtype=torch.int64)

    @abstractmethod
    def sums(self, tile: Tile) -> dict[str, Tensor]:
        """The results' terms in this tile, summed over its rows and keys."""

    def count(self, tile: Tile) -> int:
        """Rows of the tile that count, asked once a block."""
        return len(tile.block.rows)

    def update(self, tile: Tile) -> None:
        """Add one tile."""
        place = tile.block.bucket, tile.block.maps.layer
        for name, terms in self.sums(tile).items():
            getattr(self, name)[place] += terms
        if tile.is_first:
            self.rows[place] += self.count(tile)

    def compute(self) -> dict[str, Tensor]:
        """Means over all rows."""
        return self.results({name: getattr(self, name).sum(0) for name in self.shapes}, self.rows.sum(0))

    def by_position(self) -> dict[str, Tensor]:
        """Means over the rows of each bucket; NaN where it has none."""
        return self.results({name: getattr(self, name) for name in self.shapes}, self.rows)

    def results(self, sums: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """Results from sums [..., L, ...] over `rows` [..., L]; means, unless a metric says otherwise."""
        return {
            name: total / rows.reshape(*rows.shape, *[1] * (total.ndim - rows.ndim)) for name, total in sums.items()
        }
