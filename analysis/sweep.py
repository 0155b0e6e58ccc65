"""A sweep from Python: its runs, losses, tables, measurements of heads and figures."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from analysis.comparison import comparison_table, runs_table, seed_differences
from analysis.evidence import Record, distinct
from analysis.selection import Selection
from analysis.sweep_data import SweepData, settings_of
from sla_ablate.errors import InputError
from sla_ablate.runs.sweep import read_sweep
from sla_ablate.runs.swept import titles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Names = str | Sequence[str] | None
"""One or several labels or names of patterns; None: all."""
_OF_DOCUMENTS = ("nll", "tokens", "bytes", "words")


@dataclass(frozen=True)
class SweepResults:
    """What the done runs of a sweep gave. Every table is a new one, free to be changed."""

    folder: Path
    """The sweep's folder."""
    records: Sequence[Record]
    """The records of the runs that were chosen, whatever their state."""
    patterns: Sequence[str] = ()
    """Labels of the patterns that were chosen, in order; none: all."""

    @property
    def runs(self) -> pd.DataFrame:
        """One row a done run: identity, every key that differs between runs, validation, costs and speed.

        A key has its name in the configuration, such as `optim.lr`, and is null for a run on which it has no effect.
        """
        return runs_table(self._done)

    @property
    def documents(self) -> pd.DataFrame:
        """One row a done run and validation document; columns run_id, pattern, seed, pairing, setting, document, nll.

        `nll` is the loss in nats, summed over the document's `tokens`; `bytes` and `words` are its length.
        """
        names = ("run_id", "pattern", "seed", "pairing", "setting", "document", *_OF_DOCUMENTS)
        tables = [_documents(record) for record in self._done]
        return pd.concat(tables, ignore_index=True)[[*names]] if tables else pd.DataFrame(columns=[*names])

    def table(self) -> pd.DataFrame:
        """One row a setting and pattern, in numbers; `analysis.comparison.comparison_table` tells the columns."""
        return comparison_table(self.records, self.patterns)

    def differences(self) -> pd.DataFrame:
        """One row a seed pair: `delta`, the pattern's nats per token minus the baseline's."""
        return seed_differences(self.records)

    def heads(self) -> pd.DataFrame:
        """One row a value that `analyze` measured; analysis/README.md tells the columns.

        Raises:
            InputError: none of the runs was analyzed.
        """
        return SweepData(self.folder, self._done).heads

    def figure(
        self,
        name: str,
        ax: Axes | None = None,
        figsize: tuple[float, float] | None = None,
        patterns: Names = None,
        run: str | Path | None = None,
    ) -> Figure:
        """One of the figures that `sla-ablate figure --help` lists, or one of your own.

        Args:
            name: the figure's, or `my_package.module:name` of a function of `SweepData`.
            ax: a subplot whose place the figure takes; None: it is a figure of its own.
            figsize: width and height in inches of a figure of its own; None: a paper's column or page.
            patterns: those to show, in this order, beside the baseline; None: those of the sweep.
            run: id or folder of the one run to show, for figures of single runs.

        Returns:
            The figure, or with `ax` the subfigure in its place.

        Raises:
            InputError: there is no such figure, pattern or run, it is drawn from what was not measured, or the runs
                are of several settings.
        """
        from analysis.figures import figure_named
        from analysis.figures.style import drawing_on

        if ax is not None and figsize is not None:
            raise InputError("figsize is that of a figure of its own; with ax, give it to plt.subplots()")
        run = None if run is None else str(run)
        draw = figure_named(name, run)
        records, chosen = Selection(_several(patterns)).of(self.records)
        faults: list[str] = []
        settings = settings_of(self.folder, records, faults, run, chosen or self.patterns)
        if len(settings) > 1:
            raise InputError(
                f"{self.folder} has runs of {len(settings)} settings, and a figure shows one; choose by "
                f"open_sweep(…, where={{KEY: VALUE}}) between {'; '.join(titles(records).values())}"
            )
        (data,) = settings.values()
        with drawing_on(ax):
            figure = draw(data)
        if figsize is not None:
            figure.set_size_inches(figsize)
        _warn(faults)
        return figure

    @cached_property
    def _done(self) -> list[Record]:
        return [record for record in distinct(self.records) if record["state"] == "done"]


def open_sweep(sweep: str | Path, patterns: Names = None, where: Mapping[str, object] | None = None) -> SweepResults:
    """Read what a sweep has given so far; what cannot be read is a warning, a line each.

    Args:
        sweep: its folder, such as `runs/demo`.
        patterns: labels or names of those that count, in the order in which tables have them, beside the baseline.
        where: only runs with these values of keys of the configuration, such as `{"optim.lr": 0.001}`.

    Raises:
        InputError: the folder holds no runs, or there are none as chosen.
    """
    folder = Path(sweep)
    found = read_sweep(folder)
    _warn(each.reason for each in found.left_out)
    values = [f"{key}={'null' if value is None else value}" for key, value in (where or {}).items()]
    records, chosen = Selection(_several(patterns), values).of(found.records)
    return SweepResults(folder, records, chosen)


def _several(names: Names) -> Sequence[str]:
    return [names] if isinstance(names, str) else names or ()


def _warn(faults: Iterable[str]) -> None:
    for fault in faults:
        warnings.warn(fault, stacklevel=3)


def _documents(record: Record) -> pd.DataFrame:
    validation = record["results"]["validation"]
    identity = {name: record[name] for name in ("run_id", "seed", "pairing", "setting")}
    table = pd.DataFrame({name: validation[name] for name in _OF_DOCUMENTS})
    return table.assign(document=validation["documents"], pattern=record["pattern"]["label"], **identity)
