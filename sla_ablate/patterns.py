"""Skip patterns: which layer's keys and which layer's values every head attends to.

A pattern is two integer tables of shape [n_layer, n_head]. Head h of layer l uses its own queries and the
keys that layer `key_source[l, h]` and the values that layer `value_source[l, h]` computed for head h.
`source == l` is ordinary attention. A new mechanism is a new constructor and a file in `conf/pattern/`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sla_ablate.errors import InputError

Table = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
TableLike = Sequence[Sequence[int]] | npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class SkipPattern:
    """Two source tables, [n_layer, n_head] each; read-only and validated.

    Raises:
        InputError: a table is not [n_layer, n_head], or a head reads a layer above its own or below 0.
    """

    key_source: Table
    value_source: Table

    def __post_init__(self) -> None:
        for name in ("key_source", "value_source"):
            table = np.array(getattr(self, name))
            if table.ndim != 2 or 0 in table.shape or not np.issubdtype(table.dtype, np.integer):
                raise InputError(f"{name} is not a table of whole numbers [n_layer, n_head]: shape {table.shape}")
            table = table.astype(np.int64)
            own = np.arange(len(table))[:, None]
            for layer, head in np.argwhere((table < 0) | (table > own))[:1]:
                raise InputError(
                    f"{name}: layer {layer}, head {head} reads layer {table[layer, head]}; "
                    f"a head can read layers 0 to {layer} (its own)"
                )
            table.setflags(write=False)
            object.__setattr__(self, name, table)
        if self.key_source.shape != self.value_source.shape:
            raise InputError(f"key_source is {self.key_source.shape} but value_source is {self.value_source.shape}")

    @property
    def n_layer(self) -> int:
        """Number of layers."""
        return int(self.key_source.shape[0])

    @property
    def n_head(self) -> int:
        """Number of heads in each layer."""
        return int(self.key_source.shape[1])

    @functools.cached_property
    def keys_read(self) -> Mask:
        """[n_layer, n_head]: whether some head reads the keys of head h of layer l."""
        return _read(self.key_source)

    @functools.cached_property
    def values_read(self) -> Mask:
        """[n_layer, n_head]: whether some head reads the values of head h of layer l."""
        return _read(self.value_source)

    @property
    def is_baseline(self) -> bool:
        """Whether every head attends to its own layer."""
        return self == SkipPattern.baseline(self.n_layer, self.n_head)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, SkipPattern)
            and np.array_equal(self.key_source, other.key_source)
            and np.array_equal(self.value_source, other.value_source)
        )

    def __hash__(self) -> int:
        return hash((self.key_source.tobytes(), self.value_source.tobytes()))

    @classmethod
    def from_tables(cls, key_source: TableLike, value_source: TableLike | None = None) -> SkipPattern:
        """Any pattern, from nested lists or arrays; values come from where the keys come from unless given."""
        keys = _table("key_source", key_source)
        return cls(keys, keys if value_source is None else _table("value_source", value_source))

    @classmethod
    def baseline(cls, n_layer: int, n_head: int) -> SkipPattern:
        """Ordinary attention: every head reads its own layer."""
        return cls.from_tables(_own_layers(n_layer, n_head))

    @classmethod
    def skip_layer(
        cls, n_layer: int, n_head: int, distance: int = 9, heads: int = 9, layers: int | None = None
    ) -> SkipPattern:
        """Skip-layer attention: the first `heads` heads of layer l read layer l - `distance`.

        Layers below `distance` have no such source and stay ordinary (reading A of the paper's n_l). With
        `layers`, only the last `layers` layers carry skip heads (reading B).

        Source: Chen et al. 2024, arXiv 2406.11274.
        """
        _check_skip(n_layer, n_head, distance, heads)
        if layers is not None and not 1 <= layers <= n_layer - distance:
            raise InputError(
                f"layers={layers} is not possible: at distance {distance}, 1 to {n_layer - distance} "
                f"of the {n_layer} layers can carry skip heads"
            )
        table = _own_layers(n_layer, n_head)
        first = distance if layers is None else n_layer - layers
        table[first:, :heads] -= distance
        return cls.from_tables(table)

    @classmethod
    def window(cls, n_layer: int, n_head: int, distance: int = 9, heads: int = 9) -> SkipPattern:
        """Skip heads spread over up to `distance` preceding layers (reading C of the paper's n_l).

        Skip head h of layer l reads layer l - 1 - (h mod min(`distance`, l)); layer 0 stays ordinary.

        Source: Chen et al. 2024, arXiv 2406.11274.
        """
        _check_skip(n_layer, n_head, distance, heads)
        table = _own_layers(n_layer, n_head)
        for layer in range(1, n_layer):
            table[layer, :heads] -= 1 + np.arange(heads) % min(distance, layer)
        return cls.from_tables(table)


def _table(name: str, rows: TableLike) -> Table:
    try:
        return np.array(rows)
    except ValueError:
        raise InputError(f"{name}: the rows differ in length; every layer has the same number of heads") from None


def _read(source: Table) -> Mask:
    read = np.zeros(source.shape, dtype=bool)
    read[source, np.arange(source.shape[1])] = True
    return read


def _own_layers(n_layer: int, n_head: int) -> Table:
    return np.repeat(np.arange(n_layer)[:, None], n_head, axis=1)


def _check_skip(n_layer: int, n_head: int, distance: int, heads: int) -> None:
    if not 1 <= distance < n_layer:
        raise InputError(
            f"distance={distance} is not possible with {n_layer} layers; choose 1 to {n_layer - 1}, "
            f"nearest {min(max(distance, 1), n_layer - 1)}"
        )
    if not 1 <= heads <= n_head:
        raise InputError(
            f"heads={heads} is not possible with {n_head} heads a layer; choose 1 to {n_head}, "
            f"nearest {min(max(heads, 1), n_head)}"
        )
