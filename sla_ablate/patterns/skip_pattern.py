"""The two tables of a skip pattern, and the mechanisms that they can express.

A pattern is two integer tables of shape [n_layer, n_head]. Head h of layer l uses its own queries and the
keys that layer `key_source[l, h]` and the values that layer `value_source[l, h]` computed for head h.
`source == l` is ordinary attention. A new mechanism is a constructor here, a line in `registry.py` and a file in
`conf/pattern/`; an argument that is new is a field of `PatternConfig` too.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sla_ablate.errors import InputError, unknown

Table = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
PLACEMENTS = ("first", "last", "spread")
SHARES = ("both", "keys", "values")
PARTITIONS = ("pizza", "sandwich", "lasagna")
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
            table = _table(name, getattr(self, name))
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
        """[n_layer, n_head]: True where some head reads the keys of head h of layer l."""
        return _read(self.key_source)

    @functools.cached_property
    def values_read(self) -> Mask:
        """[n_layer, n_head]: True where some head reads the values of head h of layer l."""
        return _read(self.value_source)

    @property
    def digest(self) -> str:
        """Six hexadecimal digits that tell one pair of tables from another."""
        return hashlib.sha256(repr((self.key_source.tolist(), self.value_source.tolist())).encode()).hexdigest()[:6]

    @property
    def is_baseline(self) -> bool:
        """True if every head attends to its own layer."""
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
    def from_layer_types(cls, n_layer: int, n_head: int, layer_types: str, share: str = "both") -> SkipPattern:
        """The layer that all heads of each layer read, joined by underscores, as in 0_0_2_2_4_4.

        The notation of the code for LCKV (Wu & Tu 2024, arXiv 2405.10637). Its placements in which a layer reads one
        above it are not possible here.
        """
        sources = layer_types.split("_")
        example = SkipPattern.cross_layer(n_layer, 1).key_source[:, 0]
        write = f"write one number a layer, such as {'_'.join(map(str, example))}"
        refused = f"layer_types={layer_types} is"
        if not all(source.isascii() and source.isdigit() for source in sources):
            raise InputError(f"{refused} no list of layers joined by underscores; {write}")
        if len(sources) != n_layer:
            raise InputError(f"{refused} for {len(sources)} layers, the model has {n_layer}; {write}")
        for layer, source in enumerate(map(int, sources)):
            if source > layer:
                raise InputError(
                    f"layer_types={layer_types}: layer {layer} reads layer {source}; "
                    f"a layer can read layers 0 to {layer} (its own)"
                )
        return cls._sharing(np.repeat(np.array(sources, dtype=np.int64)[:, None], n_head, axis=1), share)

    @classmethod
    def baseline(cls, n_layer: int, n_head: int) -> SkipPattern:
        """Ordinary attention: every head reads its own layer."""
        return cls.from_tables(_own_layers(n_layer, n_head))

    @classmethod
    def skip_layer(
        cls,
        n_layer: int,
        n_head: int,
        distance: int | None = None,
        heads: int | None = None,
        layers: int | None = None,
        placement: str = "first",
        share: str = "both",
    ) -> SkipPattern:
        """Skip-layer attention: `heads` heads of layer l read layer l - `distance`; if None, three quarters (9 of 12).

        Layers below `distance` have no such source and stay ordinary (reading A of the paper's n_l). With
        `layers`, only the last `layers` layers carry skip heads (reading B). `placement` is which heads of a layer
        skip: the `first`, the `last`, or `spread` evenly. `share` is what skips: `both`, or only `keys` or `values`
        (the others stay the layer's own).

        Source: Chen et al. 2024, arXiv 2406.11274; which heads skip is not known.
        """
        distance = far(n_layer) if distance is None else distance
        heads = most(n_head) if heads is None else heads
        _check("distance", distance, 1, n_layer - 1, f"{n_layer} layers")
        layers = n_layer - distance if layers is None else layers
        _check("layers", layers, 1, n_layer - distance, f"{n_layer} layers at distance {distance}")
        source = _own_layers(n_layer, n_head)
        source[n_layer - layers :, _skip_heads(n_head, heads, placement)] -= distance
        return cls._sharing(source, share)

    @classmethod
    def window(
        cls,
        n_layer: int,
        n_head: int,
        distance: int | None = None,
        heads: int | None = None,
        placement: str = "first",
        share: str = "both",
    ) -> SkipPattern:
        """Skip heads spread over up to `distance` preceding layers (reading C of the paper's n_l).

        Skip head number i of layer l reads layer l - 1 - (i mod min(`distance`, l)); layer 0 stays ordinary.
        What is None and `placement` and `share` as in `skip_layer`.

        Source: Chen et al. 2024, arXiv 2406.11274.
        """
        distance = far(n_layer) if distance is None else distance
        heads = most(n_head) if heads is None else heads
        _check("distance", distance, 1, n_layer - 1, f"{n_layer} layers")
        skips = _skip_heads(n_head, heads, placement)
        source = _own_layers(n_layer, n_head)
        for layer in range(1, n_layer):
            source[layer, skips] -= 1 + np.arange(heads) % min(distance, layer)
        return cls._sharing(source, share)

    @classmethod
    def first_layer(
        cls,
        n_layer: int,
        n_head: int,
        heads: int | None = None,
        source: int = 0,
        layers: int | None = None,
        placement: str = "first",
        share: str = "both",
    ) -> SkipPattern:
        """`heads` heads of every layer (all if None) read layer 0, or a layer `source` that is below their own.

        `layers`, `placement` and `share` as in `skip_layer`.

        With `share="values"` and all heads: SVFormer (Zhou et al. 2024, arXiv 2410.17897). Left out: ResFormer of
        the same paper, which adds the first layer's values to each layer's own.
        With `share="values"`, half of the heads, the last: SkipV1Former (Wu et al. 2025, arXiv 2510.16807). Left out:
        its way to turn a trained checkpoint into one.
        """
        _check("source", source, 0, max(0, n_layer - 2), f"{n_layer} layers")
        if layers is not None:
            _check("layers", layers, 1, n_layer - 1 - source, f"{n_layer} layers above layer {source}")
        skips = _skip_heads(n_head, n_head if heads is None else heads, placement)
        table = _own_layers(n_layer, n_head)
        table[source + 1 if layers is None else n_layer - layers :, skips] = source
        return cls._sharing(table, share)

    @classmethod
    def fused_kv_lite(cls, n_layer: int, n_head: int, split: int | None = None, share: str = "both") -> SkipPattern:
        """FusedKV-Lite: layers above `split` read its keys and layer 0's values.

        `split` is the highest layer of the lower half if None, so that half of the layers have keys and values of
        their own.

        Source: Lin et al. 2025, arXiv 2512.03870. Left out: FusedKV of the same paper, which adds up the keys and the
        values of both layers with learned weights.
        """
        split = (n_layer - 1) // 2 if split is None else split
        _check("split", split, 0, n_layer - 1, f"{n_layer} layers")
        values = _own_layers(n_layer, n_head)
        values[split + 1 :] = 0
        return cls._sharing(_groups(n_layer, n_head, range(split + 1)), share, values)

    @classmethod
    def cross_layer(cls, n_layer: int, n_head: int, group_size: int = 2, share: str = "both") -> SkipPattern:
        """Cross-layer attention: `group_size` adjacent layers read the lowest of them; the last group may be smaller.

        Source: Brandon et al. 2024, arXiv 2405.12981. Left out: fewer key and value heads than query heads, which
        the paper combines it with, and the wider layers that spend the parameters saved.
        """
        _check("group_size", group_size, 1, n_layer, f"{n_layer} layers")
        return cls._sharing(_groups(n_layer, n_head, range(0, n_layer, group_size)), share)

    @classmethod
    def yoco(cls, n_layer: int, n_head: int, split: int | None = None, share: str = "both") -> SkipPattern:
        """You only cache once: layers from `split` (the middle if None) upward read layer `split`.

        Layers below `split` are the self-decoder; layer `split` computes the keys and values of the whole
        cross-decoder from the self-decoder's output.

        Source: Sun et al. 2024, arXiv 2405.05254. Left out: the self-decoder's efficient attention (a sliding window
        or gated retention; here it is full attention, whose cache grows with the context), and the key and value
        projection standing apart from the cross-decoder's first layer, with a layer norm of its own.
        """
        split = n_layer // 2 if split is None else split
        _check("split", split, 0, n_layer - 1, f"{n_layer} layers")
        return cls._sharing(_groups(n_layer, n_head, range(split + 1)), share)

    @classmethod
    def condensed(
        cls, n_layer: int, n_head: int, partition: str = "pizza", kv_layers: int | None = None, share: str = "both"
    ) -> SkipPattern:
        """Layer-condensed keys and values, "bottom" placement: `kv_layers` layers (half if None) have their own.

        A group's layers read the lowest of them. With k = `kv_layers`, `pizza`: the first k - 1 layers stand alone
        and the rest are one group; `sandwich`: the first ⌈(k-1)/2⌉ and the last ⌊(k-1)/2⌋ layers stand alone and
        those between are one group; `lasagna`: k groups of equal size (of sizes that differ by one, the smaller
        first, where k does not divide the layers).

        Source: Wu, Wu & Tu 2024, arXiv 2410.14442, after LCKV (Wu & Tu 2024, arXiv 2405.10637). Left out: the "top"
        and "middle" placements, LCKV's own among them, in which layers read a layer above; they need iterated
        training.
        """
        k = max(1, n_layer // 2) if kv_layers is None else kv_layers
        _check("kv_layers", k, 1, n_layer, f"{n_layer} layers")
        lowest = {
            "pizza": range(k),
            "sandwich": [*range(k // 2 + 1), *range(n_layer - (k - 1) // 2, n_layer)],
            "lasagna": [group * n_layer // k for group in range(k)],
        }
        if partition not in lowest:
            raise unknown("partition", partition, PARTITIONS)
        return cls._sharing(_groups(n_layer, n_head, lowest[partition]), share)

    @classmethod
    def random(
        cls,
        n_layer: int,
        n_head: int,
        heads: int | None = None,
        seed: int = 0,
        placement: str = "first",
        share: str = "both",
    ) -> SkipPattern:
        """A control: each of `heads` heads of layer l reads one layer below l, drawn uniformly; a function of `seed`.

        Layer 0 stays ordinary. A head draws the same layer however many heads skip. `heads`, `placement` and `share`
        as in `skip_layer`.
        """
        if seed < 0:
            raise InputError(f"pattern seed {seed} is not possible; choose 0 or more")
        generator = np.random.Generator(np.random.PCG64(seed))
        heads = most(n_head) if heads is None else heads
        source = _own_layers(n_layer, n_head)
        below = generator.integers(np.maximum(source, 1))
        skips = _skip_heads(n_head, heads, placement)
        source[:, skips] = below[:, skips]
        return cls._sharing(source, share)

    @classmethod
    def _sharing(cls, keys: Table, share: str, values: Table | None = None) -> SkipPattern:
        """Heads take keys, values or both from the layers of `keys` and `values` (those of `keys` if None).

        What they do not take from there is their own layer's.
        """
        values = keys if values is None else values
        own = _own_layers(*keys.shape)
        tables = {"both": (keys, values), "keys": (keys, own), "values": (own, values)}
        if share not in tables:
            raise unknown("share", share, SHARES)
        return cls(*tables[share])


def most(n: int) -> int:
    """Three quarters of n, at least one: the paper's 9 of 12."""
    return max(1, round(0.75 * n))


def far(n_layer: int) -> int:
    """A distance of three quarters of the layers, at most that from the highest layer to layer 0."""
    return max(1, min(most(n_layer), n_layer - 1))


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


def _groups(n_layer: int, n_head: int, lowest: Sequence[int]) -> Table:
    """All heads read the lowest layer of their group; `lowest` holds those layers, ascending from 0."""
    group = np.searchsorted(lowest, np.arange(n_layer), side="right") - 1
    return np.repeat(np.array(lowest)[group][:, None], n_head, axis=1)


def _skip_heads(n_head: int, heads: int, placement: str) -> Table:
    """Which `heads` of a layer's heads skip, ascending."""
    _check("heads", heads, 1, n_head, f"{n_head} heads a layer")
    places = {
        "first": np.arange(heads),
        "last": np.arange(n_head - heads, n_head),
        "spread": np.arange(heads) * n_head // heads,
    }
    if placement not in places:
        raise unknown("placement", placement, PLACEMENTS)
    return places[placement]


def _check(name: str, value: int, low: int, high: int, shape: str) -> None:
    if not low <= value <= high:
        choice = f"; choose {low} to {high}, nearest {min(max(value, low), high)}" if low <= high else ""
        raise InputError(f"{name}={value} is not possible with {shape}{choice}")
