"""What figures are drawn from: the records of a sweep and the tables that its analysis left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from analysis.comparison import by_setting, comparison_table, count_states
from analysis.evidence import Record, distinct, same_run
from analysis.selection import EVERYTHING, Selection
from analysis.stored import HEADS, RUNS, read_table
from sla_ablate.errors import InputError, unknown
from sla_ablate.files import without_dots
from sla_ablate.runs.metrics import no_metrics, read_metrics
from sla_ablate.runs.record import not_done
from sla_ablate.runs.sweep import read_sweep, tell_others, unreadable

_INDEX = ["run", "pattern", "seed", "pairing"]


@dataclass(frozen=True)
class SweepData:
    """The done runs of one setting of a sweep, as `distinct` has them.

    Raises:
        InputError: when something is asked for that was not measured.
    """

    folder: Path
    """The sweep's folder."""
    records: list[Record]
    run: str | None = None
    """Id of the only run that figures of single runs show; None: the lowest seed of each pattern."""
    faults: list[str] = field(default_factory=list)
    """What could not be read so far, a line each."""
    chosen: list[str] = field(default_factory=list)
    """The patterns that figures show, in order, as the user chose them; none: as many as there is room for."""

    @cached_property
    def ranked(self) -> list[str]:
        """The patterns, the baseline first, then those chosen and the others by mean loss."""
        return list(comparison_table(self.records, self.chosen)["pattern"])

    def run_folder(self, record: Record) -> Path:
        """The folder of a run's checkpoint and curves."""
        return self.folder / str(record["run_id"])

    @cached_property
    def heads(self) -> pd.DataFrame:
        """`analysis/heads.parquet` of these runs, as far as they were measured."""
        try:
            table = read_table(self.folder, HEADS).to_pandas()
        except FileNotFoundError:
            raise InputError(f"{self.folder} was not analyzed; run: sla-ablate analyze {self.folder}") from None
        labels = {record["run_id"]: record["pattern"]["label"] for record in self.records}
        table = table[table["run"].isin(labels)]
        return self._some("any of these runs", table.assign(pattern=table["run"].map(labels)))

    @property
    def unmeasured(self) -> list[str]:
        """The runs that `heads` lacks."""
        return sorted(set(_ids(self.records)) - set(self.heads["run"]))

    def of_heads(self, metric: str) -> pd.DataFrame:
        """One row a run, layer and head; columns run, pattern, seed, pairing, layer, head, role, value."""
        t = self._of(metric)
        return self._some(metric, t[t["head"].notna() & t["other_head"].isna() & t["position"].isna()])

    def of_layers(self, metric: str) -> pd.DataFrame:
        """One row a run and layer; columns as of `of_heads`."""
        t = self._of(metric)
        whole = t["head"].isna() & t["role"].isna() & t["position"].isna() & t["other_layer"].isna()
        return self._some(metric, t[t["layer"].notna() & whole])

    def by_layer(self, metric: str) -> pd.DataFrame:
        """The rows of `of_layers`; for a metric of heads, the mean over the layer's heads."""
        if self._of(metric)["head"].isna().all():
            return self.of_layers(metric)
        return self.of_heads(metric).groupby([*_INDEX, "layer"], sort=False)["value"].mean().reset_index()

    def of_pairs(self, metric: str) -> pd.DataFrame:
        """One row a run and pair; columns as of `of_heads`, and other_layer, other_head."""
        t = self._of(metric)
        return self._some(metric, t[(t["other_layer"].notna() | t["other_head"].notna()) & t["position"].isna()])

    def by_position(self, metric: str) -> pd.DataFrame:
        """One row a run and position bucket of the whole model; columns as of `of_heads`, and position."""
        t = self._of(metric)
        rows = t[t["layer"].isna() & t["position"].notna()]
        if rows.empty:
            raise InputError(f"{self.folder} has no {metric!r} by position: no validation document fills the context")
        return rows

    def training(self) -> pd.DataFrame:
        """One row a line of each run's `metrics.jsonl`; columns run, pattern, seed, pairing and the line's own."""
        tables = []
        for record in self.records:
            folder = self.run_folder(record)
            try:
                lines, others = read_metrics(folder, record)
            except InputError as error:
                self.faults.append(str(error))
                continue
            if others:
                self.faults.append(no_metrics(folder, others))
            identity = (record["run_id"], record["pattern"]["label"], record["seed"], record["pairing"])
            tables.append(
                pd.DataFrame(lines, columns=_columns(lines)).assign(**dict(zip(_INDEX, identity, strict=True)))
            )
        if not tables:
            raise InputError(f"no run of {self.folder} has metrics")
        return pd.concat(tables, ignore_index=True)

    def _of(self, metric: str) -> pd.DataFrame:
        return self.heads[self.heads["metric"] == metric]

    def _some(self, metric: str, rows: pd.DataFrame) -> pd.DataFrame:
        if rows.empty and self._is_current:
            raise InputError(
                f"{self.folder} was analyzed, and of {metric} no value came: the context is too short for it, there "
                "are too few heads, or it is a metric of your own that analyze was not given"
            )
        if rows.empty:
            raise InputError(f"{self.folder / HEADS} has no {metric}; run: sla-ablate analyze {self.folder}")
        return rows

    @property
    def _is_current(self) -> bool:
        """True if all of these runs were measured by this version, so that it would measure nothing else."""
        from analysis.analyze import code_version

        try:
            runs = read_table(self.folder, RUNS).to_pandas().set_index("run_id")
        except FileNotFoundError:
            return False
        return bool((runs["analysis.version"].reindex(_ids(self.records)) == code_version()).all())


def open_settings(sweep: str | Path, run: str | None = None, selection: Selection = EVERYTHING) -> dict[str, SweepData]:
    """The data of each setting that has done runs; with `run`, an id or a folder, only of that run's setting.

    Args:
        sweep: its folder.
        run: the one run that figures of single runs show.
        selection: the runs that count.

    Raises:
        InputError: no run is done, or `run` is none of the done ones.
    """
    sweep = Path(sweep)
    found = read_sweep(sweep)
    tell_others(found.left_out)
    records, chosen = selection.of(found.records)
    return settings_of(sweep, records, unreadable(found.left_out), run, chosen)


def settings_of(
    sweep: Path, every: Sequence[Record], faults: list[str], run: str | None = None, chosen: Sequence[str] = ()
) -> dict[str, SweepData]:
    """The data of `open_settings`, of records that have been read; `faults` is given what cannot be.

    Raises:
        InputError: as `open_settings`.
    """
    records = [record for record in distinct(every) if record["state"] == "done"]
    if not records:
        raise InputError(f"no run of {sweep} is done, so there is nothing to draw: {count_states(every)}")
    settings = by_setting(records)
    if run is None:
        return {setting: SweepData(sweep, group, None, faults, list(chosen)) for setting, group in settings.items()}
    run_id = without_dots(Path(run)).name  # of `.` too
    named = {record["run_id"]: record for record in every}.get(run_id)
    if named is None:
        raise unknown("run", run_id, _ids(records))
    if named["state"] != "done":
        raise not_done(sweep / named["run_id"], named)
    only = next(record for record in records if same_run(record) == same_run(named))
    return {only["setting"]: SweepData(sweep, settings[only["setting"]], only["run_id"], faults, list(chosen))}


def _columns(lines: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(["step", "loss", "validation_loss", *(name for line in lines for name in line)]))


def _ids(records: Iterable[Record]) -> list[str]:
    return [record["run_id"] for record in records]
