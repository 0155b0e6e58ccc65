"""Baselines that differ from a run in one respect, and so tell what a pattern's difference is worth."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from analysis.evidence import is_baseline
from sla_ablate.items.lines import Line

Run = Mapping[str, Any]
"""A record or a line."""


class Siblings:
    """The baselines that are done, by all that their results depend on but pattern, seed and some keys.

    Args:
        baselines: the runs to choose from, of any item.
        free: the keys of the configuration in which they may differ, such as `optim.steps`.
    """

    def __init__(self, baselines: Iterable[Line], free: tuple[str, ...]) -> None:
        self._free = free
        self._by_recipe: dict[str, dict[str, Line]] = {}
        for line in baselines:
            if line["state"] == "done" and is_baseline(line):
                self._by_recipe.setdefault(self.recipe(line), {})[line["run_id"]] = line

    def of(self, run: Run) -> list[Line]:
        """Those of a run's recipe, of each run one."""
        return list(self._by_recipe.get(self.recipe(run), {}).values())

    def recipe(self, run: Run) -> str:
        """All that a run's result depends on but pattern, seed and the free keys; the kind of processor too."""
        sections = {name: run["config"].get(name) for name in ("model", "optim", "evaluation")}
        kept = {
            name: {key: value for key, value in section.items() if f"{name}.{key}" not in self._free}
            for name, section in sections.items()
            if section is not None
        }
        ran = [run["schema"], run["data"], run["environment"]["precision"], run["environment"]["processor"]]
        return json.dumps([*ran, kept], sort_keys=True)


def nats_per_token(run: Run) -> float:
    """A run's validation loss."""
    nll, tokens = (run["validation"][name] for name in ("nll", "tokens"))
    return float(nll / tokens)
