"""All that a run's configuration can be, in words: groups with their choices, options with what they can be.

Sentences, types and defaults are the schema's, bounds those of `bounds`, choices those of `conf/`. What a choice is
stands in its file's first line, and what a launcher's or a sweeper's option is in a comment beside it. Neither Hydra
nor torch is imported, so that help and completion come at once.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from sla_ablate.config.bounds import BOUNDS, HYDRA_BOUNDS
from sla_ablate.config.root import data_root
from sla_ablate.config.schema import CHOICES, OPEN_CHOICES, PATH, ModelConfig, RunConfig
from sla_ablate.errors import DOTTED, unknown
from sla_ablate.model.config import GPTConfig

_BASIC: Mapping[str, str] = {
    "hydra/launcher": "One run after another, on this machine; the default.",
    "hydra/sweeper": "Every combination of the values; the default.",
}
"""The groups of Hydra's that are offered here, each with what its own default does."""
_KINDS = {"int": "whole number", "float": "number", "str": "text", "bool": "true or false"}
_LINE = re.compile(r"(?P<indent> *)(?P<key>\w+):\s*(?P<value>[^#]*?)\s*(?:#\s*(?P<words>.*))?")


@dataclass(frozen=True)
class Option:
    """One key."""

    key: str
    sentence: str
    kind: str
    """What its value is, in words: type, bounds or choices, null where that is possible."""
    default: str
    """As an override has it."""
    values: tuple[str, ...] = ()
    """All that it can be, if they are few."""


def groups(config_dir: Path | None = None) -> dict[str, dict[str, str]]:
    """The groups, each with its choices and what each of them is; those of a folder of the user's own among them."""
    found: dict[str, dict[str, str]] = {}
    for root in [data_root() / "conf", *([config_dir] if config_dir else [])]:
        for path in sorted(root.glob("**/*.yaml")):
            group = path.relative_to(root).parent.as_posix()
            if group != "." and (group in _BASIC or not group.startswith("hydra")):
                found.setdefault(group, {}).setdefault(path.stem, _about(path))
    for group, sentence in _BASIC.items():
        found[group]["basic"] = sentence
    return {group: dict(sorted(found[group].items())) for group in sorted(found)}


def options(defaults: RunConfig | None = None) -> list[Option]:
    """Every key of the schema.

    Args:
        defaults: their values; None: those of our own primary configuration.
    """
    return list(_options(RunConfig, "", _nested(defaults) if defaults else _defaults()))


def launching(group: str, choice: str) -> list[Option]:
    """The keys that a choice of a launcher or a sweeper has."""
    path = data_root() / "conf" / group / f"{choice}.yaml"
    if not path.is_file():
        return []
    prefix, found, parents = group.replace("/", "."), [], [""]
    for line in path.read_text(encoding="utf-8").splitlines():
        if not (read := _LINE.fullmatch(line)) or read["key"] in ("defaults", "_target_"):
            continue
        depth = len(read["indent"]) // 2
        parents = [*parents[: depth + 1], f"{read['key']}."]
        if not read["value"]:
            continue
        key = f"{prefix}.{''.join(parents[1:-1])}{read['key']}"
        kind = "whole number" if read["value"].isdigit() else "text; or null" if read["value"] == "null" else "text"
        if bounds := HYDRA_BOUNDS.get(key):
            kind = f"{_KINDS[bounds.kind.__name__]}, {bounds}; or null"
        found.append(Option(key, read["words"] or "", kind, read["value"]))
    return found


def describe(
    names: list[str],
    config_dir: Path | None = None,
    defaults: RunConfig | None = None,
    more: Mapping[str, Iterable[str]] = {},
) -> str:
    """The reference, or the part of it that tells of some groups.

    Args:
        names: the groups; none: everything.
        config_dir: a folder with groups of the user's own.
        defaults: of a primary configuration of the user's own.
        more: choices of groups that it finds elsewhere.

    Raises:
        InputError: a group is unknown.
    """
    offered = groups(config_dir)
    for group, choices in more.items():
        offered[group] = dict(sorted({**dict.fromkeys(choices, ""), **offered.get(group, {})}.items()))
    by_section: dict[str, list[Option]] = {}
    for option in options(defaults):
        by_section.setdefault(option.key.rpartition(".")[0], []).append(option)
    every = dict.fromkeys([*offered, *filter(None, by_section)])
    for name in names:
        if name not in every:
            raise unknown("group", name, every)
    lines = []
    if not names:
        lines += ["groups (GROUP=NAME); `train --help GROUP` tells of one:"]
        lines += [f"  {group}: {', '.join(choices)}" for group, choices in offered.items()]
    for name in names or every:
        lines += ["", *_told(name, offered.get(name, {}), by_section.get(name, []))]
    if not names:
        lines += ["", "options of no group (KEY=VALUE):", *_listed(by_section[""])]
    return "\n".join(lines).lstrip() + "\n"


def _told(group: str, choices: Mapping[str, str], keys: list[Option]) -> Iterator[str]:
    about = _sentence(_section(group)) if keys else ""
    yield f"{group}: {about}" if about else f"{group}:"
    width = max(map(len, choices), default=0)
    for name, sentence in choices.items():
        yield textwrap.fill(
            f"{name:<{width}}  {sentence}", 110, initial_indent="  ", subsequent_indent=" " * (width + 4)
        )
        if group in _BASIC:
            yield from (f"    {line}" for line in _listed(launching(group, name)))
    yield from _listed(keys)


def _listed(keys: list[Option]) -> Iterator[str]:
    for option in keys:
        yield f"  {option.key}={option.default}" + (f"  ({option.kind})" if option.kind else "")
        yield textwrap.fill(option.sentence, 110, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _options(cls: Any, prefix: str, defaults: Mapping[str, Any]) -> Iterator[Option]:
    sentences = {**(_sentences(GPTConfig) if cls is ModelConfig else {}), **_sentences(cls)}
    hints = get_type_hints(cls)
    for field in fields(cls):
        key = f"{prefix}{field.name}"
        if is_dataclass(hints[field.name]):
            yield from _options(hints[field.name], f"{key}.", defaults.get(field.name, {}))
            continue
        kind, values = _kind(key, str(field.type))
        yield Option(key, sentences.get(field.name, ""), kind, _written(defaults.get(field.name)), values)


def _kind(key: str, hint: str) -> tuple[str, tuple[str, ...]]:
    """What a value can be, in words, and all values if they are few."""
    base, _, null = hint.partition(" | ")
    inner = base.removeprefix("list[").removeprefix("list[").rstrip("]")
    if allowed := CHOICES.get(key) or OPEN_CHOICES.get(key):
        words = " or ".join([", ".join(allowed[:-1]), allowed[-1]])
        values = tuple(each for each in allowed if each not in (DOTTED, PATH))
    elif base == "bool":
        words, values = _KINDS[base], ("true", "false")
    else:
        words, values = _KINDS.get(inner, "{KEY: VALUE, …}"), ()
        words += f", {BOUNDS[key]}" if key in BOUNDS else ""
        if base.startswith("list"):
            words = f"{'lists' if base.count('list') > 1 else 'list'} of: {words}"
    return (f"{words}; or null", (*values, "null") if values else ()) if null else (words, values)


def _written(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    text = str(value)
    return text if not isinstance(value, str) or re.fullmatch(r"[\w./:-]*", text) else f"'{text}'"


def _section(group: str) -> Any:
    return get_type_hints(RunConfig)[group]


def _sentence(thing: Any) -> str:
    """The first paragraph of a docstring in one line."""
    return " ".join(str(inspect.getdoc(thing)).split("\n\n")[0].split())


@cache
def _sentences(cls: Any) -> dict[str, str]:
    """What stands below each field of a dataclass."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    found, last = {}, ""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and last:
            found[last] = " ".join(str(node.value.value).split())
            last = ""
    return found


def _about(path: Path) -> str:
    """The comment at the beginning of a file, its first sentence or line."""
    lines = [
        line.removeprefix("#").strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[:4]
        if line.startswith("#")
    ]  # fmt: skip
    told = " ".join(line for line in lines if not line.startswith("@package"))
    return re.split(r"(?<=[.?])\s", told, maxsplit=1)[0]


def _nested(config: Any) -> dict[str, Any]:
    return {
        field.name: _nested(value) if is_dataclass(value := getattr(config, field.name)) else value
        for field in fields(config)
    }


def _defaults() -> dict[str, Any]:
    """The schema's defaults under those of the files that our primary configuration begins with."""
    values = _nested(RunConfig())
    conf = data_root() / "conf"
    primary = yaml.safe_load((conf / "config.yaml").read_text(encoding="utf-8"))
    for entry in primary["defaults"]:
        if isinstance(entry, dict):
            ((group, choice),) = entry.items()
            if group in values and choice is not None:
                values[group] |= yaml.safe_load((conf / group / f"{choice}.yaml").read_text(encoding="utf-8")) or {}
    return values | {name: value for name, value in primary.items() if name in values}
