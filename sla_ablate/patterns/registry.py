"""The names under which a configuration asks for a pattern, and what tables, figures and folders call it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, NamedTuple

from sla_ablate.errors import DOTTED, InputError, named, unknown
from sla_ablate.patterns.skip_pattern import SkipPattern, TableLike, far, most


class Names(NamedTuple):
    """What a pattern is called; as format strings over its constructor's arguments and `pattern` itself."""

    label: str
    """The name in words, for tables and figures."""
    slug: str
    """The name as a piece of a folder's name."""


QUALIFIERS = {
    "source": Names(", layer {source} in the place of 0", "-from{source}"),
    "layers": Names(", last {layers} layers", "-l{layers}"),
    "placement": Names(", {placement} heads", "-{placement}"),
    "share": Names(", {share} only", "-{share}"),
}


@dataclass(frozen=True)
class Mechanism:
    """A constructor of patterns and its names."""

    constructor: Callable[..., SkipPattern]
    names: Names
    null: Mapping[str, Callable[[Mapping[str, Any]], int]] = field(default_factory=dict)
    """What null means for an argument, from those before it, the model's layers and heads first; if it is not here,
    the default."""
    qualifiers: Mapping[str, Names] = field(default_factory=QUALIFIERS.copy)
    """What is added to the names for an argument that is not at its default."""

    @property
    def options(self) -> tuple[str, ...]:
        """What the constructor has a use for, beside the model's shape."""
        return tuple(name for name in inspect.signature(self.constructor).parameters if name not in _SHAPE)

    def pattern(self, n_layer: int, n_head: int, fields: Mapping[str, Any]) -> SkipPattern:
        """The pattern for a model; the constructor takes those of the configuration's `fields` that it has a use for.

        Raises:
            InputError: one of them has a value that is not possible.
        """
        return self.constructor(**self.arguments(n_layer, n_head, fields))

    def named(self, n_layer: int, n_head: int, fields: Mapping[str, Any]) -> Names:
        """The names filled in."""
        arguments = self.arguments(n_layer, n_head, fields)
        defaults = inspect.signature(self.constructor).parameters
        told = [name for name in self.qualifiers if name in arguments and arguments[name] != defaults[name].default]
        parts = zip(self.names, *(self.qualifiers[name] for name in told), strict=True)
        filling = {"pattern": self.constructor(**arguments), **arguments}
        label, slug = ("".join(part).format(**filling) for part in parts)
        return Names(label, re.sub(r"[^A-Za-z0-9_.=-]+", "-", slug)[:100])

    def arguments(self, n_layer: int, n_head: int, fields: Mapping[str, Any]) -> dict[str, Any]:
        """What the constructor is called with: those of the `fields` that it has a use for, null filled in."""
        parameters = inspect.signature(self.constructor).parameters
        own = [name for name in parameters if name not in (*fields, *_SHAPE)]
        for option in fields["options"]:
            if ":" in fields["name"] and option not in own:  # ours ignore all that they have no use for
                raise unknown(f"argument of {fields['name']}", option, own or ["none"])
        given = {**fields, **fields["options"], "n_layer": n_layer, "n_head": n_head}
        arguments: dict[str, Any] = {}
        for name, parameter in parameters.items():
            value = given.get(name)
            if value is None:
                value = self.null[name](arguments) if name in self.null else parameter.default
            if value is parameter.empty:
                where = f"pattern.options={{{name}: …}}" if name in own else f"pattern.{name}=…"
                raise InputError(f"pattern {fields['name']} needs {name!r}; give it as {where}")
            arguments[name] = value
        return arguments


def mechanism(name: str) -> Mechanism:
    """The mechanism of this name, or that of a function of the user's own, named as `errors.DOTTED`.

    Raises:
        InputError: there is none.
    """
    if name in MECHANISMS:
        return MECHANISMS[name]
    if ":" not in name:
        raise unknown("pattern.name", name, (*MECHANISMS, DOTTED))
    return _of_the_user(name)


def _of_the_user(name: str) -> Mechanism:
    """A mechanism whose names are the function's and tell its arguments."""
    function = named("pattern.name", name)
    parameters = inspect.signature(function).parameters if inspect.isfunction(function) else {}
    if not set(_SHAPE) <= set(parameters):
        raise InputError(f"pattern.name {name!r} is no function of n_layer and n_head")
    called = name.partition(":")[2]
    if called in MECHANISMS:
        raise InputError(f"pattern.name {name!r} is called like a pattern of ours; give the function another name")

    @wraps(function)
    def constructor(n_layer: int, n_head: int, **arguments: Any) -> SkipPattern:
        pattern = function(n_layer=n_layer, n_head=n_head, **arguments)
        if not isinstance(pattern, SkipPattern) or pattern.key_source.shape != (n_layer, n_head):
            raise InputError(f"pattern.name {name!r} gave no SkipPattern of {n_layer} layers × {n_head} heads")
        return pattern

    qualifiers = {
        each: QUALIFIERS.get(each, Names(f", {each.replace('_', ' ')} {{{each}}}", f"-{each}{{{each}}}"))
        for each in parameters
        if each not in _SHAPE
    }
    return Mechanism(constructor, Names(called.replace("_", " "), called), qualifiers=qualifiers)


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


_SHAPE = ("n_layer", "n_head")
"""Arguments that every constructor is given: the model's."""

DISTANCE = {"distance": lambda given: far(given["n_layer"])}
HEADS = {"heads": lambda given: most(given["n_head"])}
LAST_LAYERS = {"distance": lambda given: 1, "layers": lambda given: min(3, given["n_layer"] - given["distance"])}
ALL_HEADS = {"heads": lambda given: given["n_head"]}
HALF_OF_HEADS = {"heads": lambda given: max(1, given["n_head"] // 2)}
SPLIT = {"split": lambda given: given["n_layer"] // 2}
LOWER_HALF = {"split": lambda given: (given["n_layer"] - 1) // 2}
KV_LAYERS = {"kv_layers": lambda given: max(1, given["n_layer"] // 2)}

SLA = Names("SLA, distance {distance}, {heads} of {n_head} heads", "sla-d{distance}-h{heads}")
FIRST_LAYER = Names("first layer, {heads} of {n_head} heads", "first-h{heads}")

MECHANISMS = {
    "baseline": Mechanism(SkipPattern.baseline, Names("baseline", "baseline")),
    "sla": Mechanism(SkipPattern.skip_layer, SLA, DISTANCE | HEADS),
    "sla_count": Mechanism(SkipPattern.skip_layer, SLA, LAST_LAYERS | HEADS),
    "window": Mechanism(
        SkipPattern.window,
        Names("SLA, window {distance}, {heads} of {n_head} heads", "window-d{distance}-h{heads}"),
        DISTANCE | HEADS,
    ),
    "first_layer": Mechanism(SkipPattern.first_layer, FIRST_LAYER, ALL_HEADS),
    "skip_v1": Mechanism(SkipPattern.first_layer, FIRST_LAYER, HALF_OF_HEADS),
    "fused_kv_lite": Mechanism(
        SkipPattern.fused_kv_lite,
        Names("FusedKV-Lite, split at layer {split}", "fused-kv-lite-l{split}"),
        LOWER_HALF,
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
    "layer_types": Mechanism(SkipPattern.from_layer_types, Names("layers {layer_types}", "layers-{layer_types}")),
    "tables": Mechanism(_tables, Names("tables {pattern.digest}", "tables-{pattern.digest}")),
}
