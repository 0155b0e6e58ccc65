"""An item: a question, the sweep that answers it at each scale, and what was published, as its folder holds them.

`item.yaml`, beside `published.yaml` and `README.md`:

    question: one sentence
    reading: A                     # of n_l, or null
    sweep:                         # each line as `sla-ablate train -m` takes it; $names are a scale's
      - pattern=baseline
      - pattern=sla pattern.distance=$distances
    scales:                        # those that it can be had at, each a file in conf/scale
      micro: {seeds: 10, distances: 'range(1,6)'}
    rows: [pattern.distance]       # keys that are columns of the table, beside the pattern
    figure: {kind: line, x: pattern.distance}
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from string import Template
from typing import Any

from sla_ablate.errors import InputError, unknown
from sla_ablate.items.published import Published, read_published, read_yaml

FIRST_SEED = 10
"""The lowest seed of every item. Those below are for trying: what suggested an item is no evidence for it."""
_COMPUTED = ("model", "pattern", "data", "optim", "evaluation")
_OF_A_MACHINE = ("data.path", "data.cache", "data.reader")
READINGS = ("A", "B", "C")
FIGURES: Mapping[str, tuple[str, ...]] = {"line": ("x",), "grid": ("x", "y"), "rows": (), "heads": ()}
"""The kinds of an item's figure, each with the keys that it needs."""


@dataclass(frozen=True)
class Item:
    """One item."""

    folder: Path
    question: str
    sweep: Sequence[str]
    """Lines of overrides, in which `$name` stands for a scale's value."""
    scales: Mapping[str, Mapping[str, Any]]
    """The scales that it can be had at, with the values of the names in `sweep` and the number of `seeds`."""
    rows: Sequence[str]
    """Keys of the configuration that are columns of its table."""
    figure: Mapping[str, str]
    """`kind`, of `FIGURES`, and the keys of the configuration that it is drawn over."""
    published: Sequence[Published]
    reading: str | None = None
    """The reading of n_l: A, distance; B, count; C, window."""

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name

    def seeds(self, scale: str) -> int:
        """How many seeds it has at a scale.

        Raises:
            InputError: it cannot be had at this scale.
        """
        return int(self._at(scale)["seeds"])

    def command_lines(self, scale: str, seeds: int) -> list[list[str]]:
        """The overrides of each sweep that it is made of.

        Raises:
            InputError: it cannot be had at this scale.
        """
        values = self._at(scale)
        seeds_asked = f"seed=range({FIRST_SEED},{FIRST_SEED + seeds})"
        asked = [[Template(part).substitute(values) for part in shlex.split(line)] for line in self.sweep]
        for part in chain.from_iterable(asked):
            _check_computed(self.folder / "item.yaml", part)
        return [[f"scale={scale}", *parts, seeds_asked] for parts in asked]

    def functions(self, scale: str) -> list[str]:
        """The overrides of its sweep that name functions of somebody's own, which are imported to carry it out."""
        parts = chain.from_iterable(self.command_lines(scale, 1))
        return [part for part in parts if part.startswith(("pattern=", "pattern.name=")) and ":" in part]

    def _at(self, scale: str) -> Mapping[str, Any]:
        if scale not in self.scales:
            raise unknown(f"scale of {self.name}", scale, self.scales)
        return self.scales[scale]


def _check_computed(path: Path, override: str) -> None:
    """Make sure that an override of an item, which may be somebody else's, says what is computed and nothing else."""
    key = override.partition("=")[0].lstrip("+")
    if key.partition(".")[0] not in _COMPUTED or key in _OF_A_MACHINE:
        raise InputError(
            f"{path}: {override!r} says something else than what is computed; allowed: options of "
            f"{', '.join(_COMPUTED)}, but not {', '.join(_OF_A_MACHINE)}"
        )


def items(root: Path) -> dict[str, Item]:
    """The items in a folder of items, by name.

    Raises:
        InputError: one of them is not as it should be.
    """
    return {path.parent.name: read_item(path.parent) for path in sorted(root.glob("*/item.yaml"))}


def find_item(name: str, root: Path) -> Item:
    """The item of a name, or in a folder of the user's own, which is named with a slash.

    Raises:
        InputError: there is none, or it is not as it should be.
    """
    folder = Path(name) if "/" in name else root / name
    if not (folder / "item.yaml").is_file():
        raise unknown("item", name, [path.parent.name for path in sorted(root.glob("*/item.yaml"))])
    return read_item(folder)


def read_item(folder: Path) -> Item:
    """The item of a folder.

    Raises:
        InputError: what is wrong with `item.yaml` or `published.yaml`, in one line.
    """
    path = folder / "item.yaml"
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no mapping of names to values")
    allowed = [field.name for field in fields(Item) if field.name not in ("folder", "published")]
    for key in values:
        if key not in allowed:
            raise unknown(f"{path}: key", key, allowed)
    for key in allowed:
        if key not in values and key != "reading":
            raise InputError(f"{path} lacks {key!r}")
    for key, expected in {"question": str, "sweep": list, "scales": dict, "rows": list, "figure": dict}.items():
        if not isinstance(values[key], expected):
            raise InputError(f"{path}: {key} is no {expected.__name__}; see the items beside it")
    kind = values["figure"].get("kind")
    if kind not in FIGURES:
        raise unknown(f"{path}: figure.kind", kind, FIGURES)
    if {"kind", *FIGURES[kind]} != set(values["figure"]):
        raise InputError(f"{path}: a figure of kind {kind} has {', '.join(('kind', *FIGURES[kind]))}")
    if values.get("reading") not in (*READINGS, None):
        raise unknown(f"{path}: reading", values["reading"], READINGS)
    for line in values["sweep"]:
        if not isinstance(line, str) or re.search(r"\$(?![a-z_])", line):
            raise InputError(f"{path}: {line!r} is no line of overrides, in which $name stands for a scale's value")
    wanted = {"seeds", *(name for line in values["sweep"] for name in re.findall(r"\$([a-z_]\w*)", line))}
    for scale, given in values["scales"].items():
        if wanted != set(given):
            raise InputError(f"{path}: scale {scale} has to give {', '.join(sorted(wanted))} and nothing else")
    return Item(folder=folder, published=read_published(folder / "published.yaml"), **values)
