"""The names under which a configuration asks for a pattern, and what tables, figures and folders call it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sla_ablate.errors import InputError, unknown
from sla_ablate.patterns.skip_pattern import SkipPattern, TableLike


class Names(NamedTuple):
    """What a pattern is called; as format strings over its constructor's arguments and `pattern` itself."""

    label: str
    """The name in words, for tables and figures."""
    slug: str
    """The name as a piece of a folder's name."""


@dataclass(frozen=True)
class Mechanism:
    """A constructor of patterns and its names."""

    constructor: Callable[..., SkipPattern]
    names: Names
    null: Mapping[str, Callable[[int, int], int]] = field(default_factory=dict)
    """What null means for an argument, from the model's layers and heads."""

    def pattern(self, n_layer: int, n_head: int, options: Mapping[str, Any]) -> SkipPattern:
        """The pattern for a model; the constructor takes those of `options` that it has a use for.

        Raises:
            InputError: one of them has a value that is not possible.
        """
        return self.constructor(**self._arguments(n_layer, n_head, options))

    def named(self, n_layer: int, n_head: int, options: Mapping[str, Any]) -> Names:
        """The names filled in; an option of `QUALIFIERS` is told where it is not at its default."""
        arguments = self._arguments(n_layer, n_head, options)
        defaults = inspect.signature(self.constructor).parameters
        told = [name for name in QUALIFIERS if name in arguments and arguments[name] != defaults[name].default]
        parts = zip(self.names, *(QUALIFIERS[name] for name in told), strict=True)
        pattern = self.constructor(**arguments)
        return Names(*("".join(part).format(pattern=pattern, **arguments) for part in parts))

    def _arguments(self, n_layer: int, n_head: int, options: Mapping[str, Any]) -> dict[str, Any]:
        given = {**options, "n_layer": n_layer, "n_head": n_head}
        arguments = {name: given[name] for name in inspect.signature(self.constructor).parameters}
        meant = {name: value(n_layer, n_head) for name, value in self.null.items() if arguments[name] is None}
        return {**arguments, **meant}


def mechanism(name: str) -> Mechanism:
    """The mechanism of this name.

    Raises:
        InputError: there is none.
    """
    if name not in MECHANISMS:
        raise unknown("pattern.name", name, MECHANISMS)
    return MECHANISMS[name]


def _tables(
    n_layer: int,
    n_head: int,
    key_source: TableLike | None = None,
    value_source: TableLike | None = None,
    share: str = "both",
) -> SkipPattern:
    if share == "values" and key_source is None:
        key_source = value_source
    if key_source is None:
        raise InputError("pattern=tables needs pattern.key_source, a table [n_layer, n_head]")
    pattern = SkipPattern.from_tables(key_source, value_source)
    if pattern.key_source.shape != (n_layer, n_head):
        raise InputError(
            f"pattern.key_source is {pattern.n_layer} layers × {pattern.n_head} heads, "
            f"the model has {n_layer} × {n_head}"
        )
    own = SkipPattern.baseline(n_layer, n_head).key_source
    return SkipPattern(
        own if share == "values" else pattern.key_source, own if share == "keys" else pattern.value_source
    )


def _three_quarters(n: int) -> int:
    """The paper's 9 of 12."""
    return max(1, round(0.75 * n))


DISTANCE = {"distance": lambda n_layer, n_head: _three_quarters(n_layer)}
HEADS = {"heads": lambda n_layer, n_head: _three_quarters(n_head)}
ALL_HEADS = {"heads": lambda n_layer, n_head: n_head}
SPLIT = {"split": lambda n_layer, n_head: n_layer // 2}
KV_LAYERS = {"kv_layers": lambda n_layer, n_head: max(1, n_layer // 2)}

MECHANISMS = {
    "baseline": Mechanism(SkipPattern.baseline, Names("baseline", "baseline")),
    "sla": Mechanism(
        SkipPattern.skip_layer,
        Names("SLA, distance {distance}, {heads} of {n_head} heads", "sla-d{distance}-h{heads}"),
        DISTANCE | HEADS,
    ),
    "window": Mechanism(
        SkipPattern.window,
        Names("SLA, window {distance}, {heads} of {n_head} heads", "window-d{distance}-h{heads}"),
        DISTANCE | HEADS,
    ),
    "first_layer": Mechanism(
        SkipPattern.first_layer, Names("first layer, {heads} of {n_head} heads", "first-h{heads}"), ALL_HEADS
    ),
    "cla": Mechanism(SkipPattern.cross_layer, Names("CLA, groups of {group_size}", "cla-g{group_size}")),
    "yoco": Mechanism(SkipPattern.yoco, Names("YOCO, split at layer {split}", "yoco-l{split}"), SPLIT),
    "condensed": Mechanism(
        SkipPattern.condensed, Names("{partition}, {kv_layers} KV layers", "{partition}-k{kv_layers}"), KV_LAYERS
    ),
    "random": Mechanism(
        SkipPattern.random,
        Names("random, {heads} of {n_head} heads, pattern seed {seed}", "random-h{heads}-p{seed}"),
        HEADS,
    ),
    "tables": Mechanism(_tables, Names("tables {pattern.digest}", "tables-{pattern.digest}")),
}

QUALIFIERS = {
    "layers": Names(", last {layers} layers", "-l{layers}"),
    "placement": Names(", {placement} heads", "-{placement}"),
    "share": Names(", {share} only", "-{share}"),
}
