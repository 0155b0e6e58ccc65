"""Everything that is measured of the runs of a sweep: one file a run, of which the tables of the sweep are made."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import analysis
import sla_ablate
from analysis.comparison import count_states, runs_table
from analysis.evidence import counted_once, distinct
from analysis.stored import about_result, read_result, seal_tables, write_result
from sla_ablate.errors import InputError
from sla_ablate.files import alone_in, claim, inside, remove_unfinished, replacing, sha256
from sla_ablate.processes import outcome
from sla_ablate.processes.live import Bar, View, shown
from sla_ablate.processes.pool import call_each
from sla_ablate.runs import swept
from sla_ablate.runs.data import data_of_all, prepare_from
from sla_ablate.runs.digests import digest
from sla_ablate.runs.record import CHECKPOINT, Record, read_config, read_record
from sla_ablate.runs.sweep import check_all_read, read_sweep, tell_others
from sla_ablate.text.telling import tell, tell_aside, waiting
from sla_ablate.text.words import duration

WORKER = "analysis.worker"
PRELOADED = ("analysis.measure", "sla_ablate.runs.trained")
"""What it imports only when it comes to need it."""
SOURCES = (
    "analysis/diversity/**/*.py",
    "analysis/importance.py",
    "analysis/loss_by_position.py",
    "analysis/measure.py",
    "analysis/perplexity.py",
    "analysis/tidy.py",
    "sla_ablate/data/batches.py",
    "sla_ablate/data/shards.py",
    "sla_ablate/training/evaluation.py",
    "sla_ablate/model/**/*.py",
    "sla_ablate/patterns/**/*.py",
)
"""Code that the values depend on."""
_TEXT, _INTEGER = pa.string(), pa.int64()
_SCHEMA = pa.schema(
    {
        **{"run": _TEXT, "pattern": _TEXT, "seed": _INTEGER, "setting": _TEXT, "pairing": _TEXT},
        **{"layer": _INTEGER, "head": _INTEGER, "other_layer": _INTEGER, "other_head": _INTEGER},
        **{"role": _TEXT, "position": _INTEGER, "metric": _TEXT, "value": pa.float64()},
    }
)


@dataclass(frozen=True)
class Effort:
    """How much of each run is measured.

    Raises:
        InputError: a number is out of range.
    """

    tokens: int
    """Tokens of the validation split that are read; see `analysis.measure`."""
    query_rows: int
    """Rows a window from which pairwise divergence is estimated."""
    stride: int | None = None
    """Tokens between overlapping windows in which the validation split is scored again; None: it is not."""
    metrics: Sequence[str] = ()
    """Names of metrics of the user's own, `my_package.module:Name`."""

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise InputError(f"tokens={self.tokens} is not possible; choose 1 or more")
        if self.query_rows < 2 or self.query_rows % 2:
            raise InputError(f"query_rows={self.query_rows} is not possible; choose an even number, 2 or more")
        if self.stride is not None and self.stride < 1:
            raise InputError(f"stride={self.stride} is not possible; choose 1 or more")


def analyze(sweep: Path, effort: Effort, jobs: int, trust: bool = False, data_path: str | None = None) -> bool:
    """Measure the done runs of a sweep, each once, and write `<sweep>/analysis/heads.parquet` and `runs.parquet`.

    A run whose `analysis.parquet` is up to date is not measured again. On a GPU runs are measured one at a time.

    Args:
        sweep: its folder.
        effort: how much is measured.
        jobs: runs measured at a time, each in a process with one thread.
        trust: prepare the corpora that the runs' configurations name, where their tokens are not there any more.
        data_path: where the corpus of the runs lies now; None: its tokens are found, or where the configurations say.

    Returns:
        Whether every done run is measured; those that failed are told and left out of `heads.parquet`.

    Raises:
        InputError: the folder holds no runs, none of them is done, or the stride is longer than a context; or some
            cannot be read, and the others were measured.
    """
    _code_of(effort.metrics)  # what is wrong with a name is told before anything is measured
    found = read_sweep(sweep)
    tell_others(found.left_out)
    records = found.records
    runs = distinct(records)
    done = {sweep / record["run_id"]: record for record in runs if record["state"] == "done"}
    if not done:
        raise InputError(f"no run of {sweep} is done, so there is nothing to analyze: {count_states(runs)}")
    if effort.stride is not None:
        _check_stride(effort.stride, done)
    if data_path is not None:
        prepare_from(data_path, done)
    out = inside(sweep, "analysis")
    out.mkdir(exist_ok=True)
    with alone_in(out):
        all_measured = _analyze(done, records, out, effort, jobs, trust)
    check_all_read(found.left_out)
    return all_measured


def _analyze(
    done: Mapping[Path, Record], records: Sequence[Record], out: Path, effort: Effort, jobs: int, trust: bool
) -> bool:
    with waiting("looking which runs are analyzed already", tell):
        todo = [folder for folder, record in done.items() if not _is_current(folder, record, effort)]
    tell(f"{len(done)} run(s), {len(done) - len(todo)} already analyzed")
    if left_out := count_states(distinct(records)):
        tell(f"left out: {left_out}")
    if twice := counted_once(records):
        tell(f"the same runs as others, under another name, and not counted twice: {', '.join(twice)}")
    for run in todo if trust else ():
        with contextlib.suppress(InputError):  # which measuring will tell
            data_of_all([run], may_prepare=True)
    failed = _measure_all(todo, effort, jobs)
    measured = {folder: record for folder, record in done.items() if folder not in failed}
    if measured:
        with waiting(f"writing the tables in {out}", tell):
            _write_tables(out, measured, list(done.values()))
    return not failed


def measure_runs(runs: Sequence[Path], effort: Effort, jobs: int) -> None:
    """Measure done runs, those that are not measured yet; what fails is told. The arguments are those of `analyze`."""
    records = {run: record for run in runs if (record := read_record(run))}
    _measure_all([run for run, record in records.items() if not _is_current(run, record, effort)], effort, jobs)


def _check_stride(stride: int, done: Mapping[Path, Record]) -> None:
    contexts = {folder: record["config"]["model"]["block_size"] for folder, record in done.items()}
    shortest = min(contexts, key=contexts.__getitem__)
    if stride > contexts[shortest]:
        raise InputError(
            f"--stride {stride} is longer than the context of {shortest}; choose 1 to {contexts[shortest]} tokens"
        )


def _measure_all(runs: Sequence[Path], effort: Effort, jobs: int) -> set[Path]:
    """The runs that could not be measured."""
    if not runs:
        return set()
    with waiting("importing torch", tell):
        import torch

    if torch.cuda.is_available():
        jobs = 1
    failed: set[Path] = set()
    started = time.monotonic()
    calls = {json.dumps([str(run), asdict(effort)]): run for run in runs}
    begun: dict[Path, float] = {}
    n = 0
    left: float | None = None

    def look() -> View:
        now = time.monotonic()
        parts = [
            Bar(run.name, 0, None, f"analyzing for {duration(now - since)}") for run, since in begun.copy().items()
        ]
        words = [f"{n}/{len(runs)} runs", *([f"{len(failed)} failed"] if failed else [])]
        if left is not None:
            words.append(f"{duration(left)} left")
        return View(Bar("analyze", n, len(runs), ", ".join(words)), parts)

    def began(argument: str) -> None:
        begun[calls[argument]] = time.monotonic()

    with shown(lambda: look):
        for argument, error, lines in call_each(WORKER, PRELOADED, calls, jobs, began):
            run = calls[argument]
            begun.pop(run, None)
            if error:
                failed.add(run)
            if told := outcome.traceback(lines) if error else lines:
                tell_aside("\n".join(told))
            n += 1
            left = (time.monotonic() - started) / n * (len(runs) - n)
            what = f"failed: {error}" if error else "analyzed"
            tell(f"{run.name}  {what}; {n}/{len(runs)}, {duration(left)} left")
    return failed


def analyze_run(run: Path, effort: Effort) -> None:
    """Measure one done run and write its `analysis.parquet`, unless another process has done so meanwhile.

    Raises:
        InputError: its model or data cannot be used.
    """
    import torch

    from analysis.measure import measure
    from sla_ablate.runs.trained import data_of, load_model

    torch.set_num_threads(1)
    with claim(run, patience=math.inf):
        remove_unfinished(run, below=False)
        record = read_record(run)
        assert record is not None
        if _is_current(run, record, effort):
            return
        shards = data_of(run)
        depends_on = _digest(run, record, effort)
        model = load_model(run).to("cuda" if torch.cuda.is_available() else "cpu")
        scored = read_config(run).evaluation.tokens
        table, extent = measure(model, shards, **asdict(effort), scored=scored)
        identity = {"run": record["run_id"], "pattern": record["pattern"]["label"]}
        table = table.assign(**identity, **{name: record[name] for name in ("seed", "setting", "pairing")})
        about = {"depends_on": depends_on, "extent": {**extent, "version": code_version()}}
        write_result(run, pa.Table.from_pandas(table, _SCHEMA, preserve_index=False), about)


def _is_current(run: Path, record: Record, effort: Effort) -> bool:
    about = about_result(run)
    try:
        return about is not None and about["depends_on"] == _digest(run, record, effort)
    except (OSError, InputError):  # its model is gone
        return False


def _digest(run: Path, record: Record, effort: Effort) -> str:
    """A digest of all that a run's values depend on; its data are part of its `setting`."""
    kept = record.get("digests", {})
    names = [f"{CHECKPOINT}/{name}" for name in ("config.json", "model.safetensors")]
    parts = [
        *(kept.get(name) or digest(run, name) for name in names),
        record["setting"],
        asdict(effort),
        code_version(),
        *_code_of(effort.metrics),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _code_of(metrics: Sequence[str]) -> list[str]:
    """Digests of the files that the user's own metrics stand in."""
    if not metrics:
        return []  # without torch, which takes seconds
    from analysis.diversity.metrics import own_metrics

    return [sha256(Path(inspect.getfile(metric))) for metric in own_metrics(metrics)]


@cache
def code_version() -> str:
    """12 hex digits that are others when the code that the values depend on is changed."""
    roots = [Path(package.__file__).parents[1] for package in (analysis, sla_ablate) if package.__file__]
    files = {path.relative_to(root): path for root in roots for source in SOURCES for path in root.glob(source)}
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(f"{name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _write_tables(out: Path, measured: Mapping[Path, Record], done: Sequence[Record]) -> None:
    keys = swept.columns(list(measured.values()))
    types = pa.Table.from_pylist(keys).schema
    first = read_result(next(iter(measured))).schema
    schema = pa.schema([*first, *types], first.metadata)  # which says what pandas makes of columns
    rows = 0
    with replacing(out / "heads.parquet") as file, pq.ParquetWriter(file, schema) as writer:
        for (run, record), values in zip(measured.items(), keys, strict=True):
            table = read_result(run)
            label = pa.array([record["pattern"]["label"]] * len(table), _TEXT)
            table = table.set_column(table.column_names.index("pattern"), "pattern", label)
            for field in types:
                table = table.append_column(field, pa.array([values[field.name]] * len(table), field.type))
            writer.write_table(table)
            rows += len(table)
    extents = {record["run_id"]: about["extent"] for run, record in measured.items() if (about := about_result(run))}
    with replacing(out / "runs.parquet") as file:
        analyzed_runs(done, extents).to_parquet(file, index=False)
    seal_tables(out.parent)
    tell(f"{out / 'heads.parquet'}: {rows:,} values\n{out / 'runs.parquet'}: {len(done)} run(s)")


def analyzed_runs(done: Sequence[Record], extents: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row a done run: columns of `runs_table`, then `config.…` and `analysis.…`.

    Options of `config.pattern.…` that a run's pattern has no use for are null.

    Args:
        done: records of done runs.
        extents: by run id, what was measured; null in the rows of other runs.
    """
    configs = pd.DataFrame([dict(swept.flat(record["config"])) | swept.values_of(record) for record in done])
    configs = configs.add_prefix("config.")
    lists = [column for column in configs if configs[column].map(lambda value: isinstance(value, list)).any()]
    measured = (
        pd.DataFrame(list(map(dict, extents.values())), index=list(extents)).convert_dtypes().add_prefix("analysis.")
    )
    measured = measured.reindex([record["run_id"] for record in done]).reset_index(drop=True)
    return runs_table(done).join([configs.drop(columns=lists), measured])
