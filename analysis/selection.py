"""Which runs of a sweep tables and figures show, as a user chooses them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from analysis.evidence import Record, distinct, is_baseline, tables_of
from sla_ablate.errors import InputError, unknown
from sla_ablate.runs.swept import flat, values_of

_Kind = TypeVar("_Kind", bound=Record)
_END_OF_ID = re.compile(r"-s[0-9]+-[0-9a-f]{8}$")


@dataclass(frozen=True)
class Selection:
    """A choice of patterns, in the order in which they are shown, and of values that the configuration has.

    A pattern is named by its label, by the name of its mechanism or by what its run ids begin with. The baseline is
    kept whatever is chosen of patterns and their options: all differences are to it.

    Args:
        patterns: each may be several, joined by commas; none: all.
        where: the values, KEY=VALUE with keys as of `train`; an option that null stands for counts as what it comes to.
    """

    patterns: Sequence[str] = ()
    where: Sequence[str] = ()
    _values: dict[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        values = {}
        for text in self.where:
            key, equals, value = text.partition("=")
            if not key or not equals:
                raise InputError(f"--where {text!r} is no KEY=VALUE, such as optim.lr=0.001")
            values[key] = value
        object.__setattr__(self, "_values", values)

    @property
    def suffix(self) -> str:
        """What is added to the names of files that show this choice; nothing for all runs."""
        told = "".join(f"-{re.sub(r'[^A-Za-z0-9_.=+-]+', '-', each)}" for each in (*self.patterns, *self.where))
        return told[:100].rstrip("-")

    def of(self, records: Sequence[_Kind]) -> tuple[list[_Kind], list[str]]:
        """The chosen records, and the labels of the patterns in the order asked for; none if no pattern was chosen.

        Raises:
            InputError: a pattern or a key is unknown, or nothing is left.
        """
        chosen = [record for record in records if self._has_values(record)]
        if not chosen:
            raise InputError(f"no run has {' and '.join(self.where)}; runs have {self._there(records)}")
        if not self.patterns:
            return chosen, []
        named: dict[str, dict[str, None]] = {}
        for record in chosen:
            pattern = record["pattern"]
            for name in (pattern["label"], pattern["name"], _END_OF_ID.sub("", record["run_id"])):
                named.setdefault(name, {})[tables_of(record)] = None
        wanted = dict.fromkeys(key for text in self.patterns for name in _split(text, named) for key in named[name])
        kept = [record for record in chosen if tables_of(record) in wanted or is_baseline(record)]
        labels = {tables_of(record): record["pattern"]["label"] for record in distinct(kept)}
        return kept, [labels[key] for key in wanted]

    def _has_values(self, record: Record) -> bool:
        return all(
            _is(_values(record, key), text) or (key.startswith("pattern.") and is_baseline(record))
            for key, text in self._values.items()
        )

    def _there(self, records: Sequence[Record]) -> str:
        """The values that there are of the keys."""
        values = {key: dict.fromkeys(str(_values(record, key)) for record in records) for key in self._values}
        return " and ".join(f"{key}={'|'.join(each)}" for key, each in values.items())


EVERYTHING = Selection()


def _split(text: str, names: Mapping[str, object]) -> list[str]:
    """The names that are joined by commas, which names may have too."""
    parts = text.split(",")
    found = []
    while parts:
        for n in range(len(parts), 0, -1):
            if (name := ",".join(parts[:n]).strip()) in names:
                break
        else:
            raise unknown("pattern", parts[0].strip(), names)
        found.append(name)
        parts = parts[n:]
    return found


def _values(record: Record, key: str) -> Any:
    """A run's value of a key of the configuration; of an option that its pattern has no use for None."""
    value: Any = record["config"]
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            every = [each for each, _ in flat(record["config"])]
            near = [each for each in every if each.startswith(f"{key.split('.')[0]}.")]
            raise unknown("--where", key, near or every)
        value = value[part]
    return values_of(record).get(key, value)


def _is(value: object, text: str) -> bool:
    """Tell whether a value is what a user writes so: 1e-3 is 0.001, and null is None."""
    if isinstance(value, bool) or value is None:
        return text.lower() == {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float):
        try:
            return float(text) == value
        except ValueError:
            return False
    return str(value).replace(" ", "") == text.replace(" ", "")
