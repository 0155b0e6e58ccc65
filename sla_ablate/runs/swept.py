"""What tells the runs of a sweep apart: the keys of the configuration in which they differ."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from sla_ablate.config.schema import RunConfig
from sla_ablate.errors import InputError

_SECTIONS = ("model", "data", "optim", "evaluation", "pattern")
_MORE = ("trainer.precision", "seed")
_NO_RESULT = ("data.cache", "optim.micro_batches", "pattern.label")
"""Keys in these sections that are no part of what a run is."""


def values_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the keys that determine a run's result, by dotted key.

    An option that the pattern has no use for is None, one that it has a use for what null stands for. Those of a
    function of the user's own are as they were stored, for it is not called.
    """
    config = record["config"]
    values = {key: value for key, value in flat(config) if key.split(".")[0] in _SECTIONS or key in _MORE}
    values = {key: value for key, value in values.items() if key not in _NO_RESULT}
    arguments = _arguments(config)
    if arguments is not None:
        for key in values:
            if key.startswith("pattern.") and key != "pattern.name":
                values[key] = arguments.get(key.removeprefix("pattern."))
        values |= {f"pattern.{name}": value for name, value in arguments.items()}
    return values


def _arguments(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options of a pattern of ours, null filled in; None for another's, and for what is no configuration of one."""
    try:
        shape = {name: config["model"][name] for name in ("n_layer", "n_head")}
        run = RunConfig.from_dict({"model": shape, "pattern": dict(config["pattern"])})
        if ":" in run.pattern_name:
            return None
        arguments = run.pattern_arguments()
    except (InputError, KeyError, TypeError):
        return None
    return {name: arguments[name] for name in arguments if name not in shape}


def swept(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys in which runs differ, in the order of the configuration.

    An option of patterns is one if those that have a use for it differ in it. Any other key is one if runs of one
    setting agree in it, so that a corpus that was moved is none.
    """
    every = [values_of(record) for record in records]
    keys = dict.fromkeys(key for values in every for key in values)
    return [key for key in keys if _differs(key, records, every)]


def _differs(key: str, records: Sequence[Mapping[str, Any]], every: Sequence[Mapping[str, Any]]) -> bool:
    found = [_hashable(values.get(key)) for values in every]
    if key.startswith("pattern."):
        return len({value for value in found if value is not None}) > 1
    if key == "seed":
        return len(set(found)) > 1
    pairs = {(record["setting"], value) for record, value in zip(records, found, strict=True)}
    return len(set(found)) > 1 and len(pairs) == len({setting for setting, _ in pairs})


def _hashable(value: Any) -> Hashable:
    return json.dumps(value) if isinstance(value, list | dict) else value


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys with their values."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def spelled(value: Any) -> str:
    """A value as on the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def short(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each key, or all of it where that is another's too."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)}


def titles(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What tells each setting from the others, as KEY=VALUE; its digest where the configuration does not tell."""
    told = {
        setting: ", ".join(f"{key}={spelled(value)}" for key, value in values.items())
        for setting, values in _of_settings(records).items()
    }
    return _unlike(told, ", setting ", "setting ")


def file_names(records: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The same as `titles` as a piece of a file's name, such as `lr0.001-steps100`."""
    told = {}
    for setting, values in _of_settings(records).items():
        names = short(list(values))
        parts = (f"{names[key]}{spelled(value).rpartition('/')[2]}" for key, value in values.items())
        told[setting] = re.sub(r"[^A-Za-z0-9_.+-]+", "-", "-".join(parts))[:100]
    return _unlike(told, "-", "")


def _of_settings(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By setting, the values of the swept keys that are a part of it."""
    keys = [key for key in swept(records) if not key.startswith("pattern.") and key != "seed"]
    first = {record["setting"]: record for record in reversed(records)}
    settings = dict.fromkeys(record["setting"] for record in records)
    values = {setting: values_of(first[setting]) for setting in settings}
    return {setting: {key: values[setting].get(key) for key in keys} for setting in settings}


def _unlike(told: Mapping[str, str], joint: str, alone: str) -> dict[str, str]:
    """Names with the digest of the setting where they are empty or another's too."""
    names = list(told.values())
    return {
        setting: name if name and names.count(name) == 1 else f"{name}{joint if name else alone}{setting}"
        for setting, name in told.items()
    }


def columns(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each record its values of the `swept` keys but those that tables have anyway.

    Lists are text, and so is every value of a key that has text for one.
    """
    keys = [key for key in swept(records) if key not in ("seed", "pattern.name")]
    every = [values_of(record) for record in records]
    found = {key: _alike([values.get(key) for values in every]) for key in keys}
    return [{key: found[key][n] for key in keys} for n in range(len(every))]


def _alike(values: Sequence[Any]) -> list[Any]:
    if not any(isinstance(value, str | list | dict) for value in values):
        return list(values)
    return [None if value is None else spelled(value) for value in values]
