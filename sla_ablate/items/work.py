"""What an item asks for at a scale: its runs, which of them are done anywhere, and which are to do here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from omegaconf import DictConfig

from sla_ablate.config.compose import compose
from sla_ablate.config.machine import processor_kind
from sla_ablate.errors import InputError
from sla_ablate.items.item import Item
from sla_ablate.items.lines import Line, processor_of
from sla_ablate.items.store import Results
from sla_ablate.launch.plan import Run, plan
from sla_ablate.runs.identity import identify

_RUNS_PER_BATCH = 4  # for each that goes on at a time: the fewer, the sooner a line is written; the more, the less idle


@dataclass(frozen=True)
class Work:
    """The runs of an item at a scale."""

    item: Item
    scale: str
    """The scale's name, and behind a + each override that changes what is computed."""
    runs: Sequence[Run]
    """All of them, the patterns of one seed after those of another."""
    hydra: DictConfig
    """How they are launched."""
    results: Results

    @property
    def folder(self) -> Path:
        """The folder of its results."""
        return self.results.folder(self.item.name, self.scale)

    def lines(self) -> list[Line]:
        """The lines of these runs: the item's own, then those that only other items have."""
        wanted = {result_hash(run.folder.name) for run in self.runs}
        mine = self.results.lines(self.item.name, self.scale)
        have = {(result_hash(line["run_id"]), processor_of(line)) for line in mine}
        others = [line for line in self.results.all_lines() if result_hash(line["run_id"]) in wanted]
        taken = {key: line for line in others if (key := (result_hash(line["run_id"]), processor_of(line))) not in have}
        return [line for line in (*mine, *taken.values()) if result_hash(line["run_id"]) in wanted]

    def to_do(self, lines: Sequence[Line]) -> list[Run]:
        """The runs that have no line, and the baselines that they need on this kind of processor."""
        done = {result_hash(line["run_id"]) for line in lines}
        here = {result_hash(line["run_id"]) for line in lines if processor_of(line) == processor_kind()}
        missing = [run for run in self.runs if result_hash(run.folder.name) not in done]
        pairings = {_pairing(run) for run in missing}
        return [
            run
            for run in self.runs
            if result_hash(run.folder.name) not in done
            or (_is_baseline(run) and result_hash(run.folder.name) not in here and _pairing(run) in pairings)
        ]


def work_of(
    item: Item,
    scale: str,
    seeds: int | None,
    overrides: Sequence[str],
    results: Results,
    config_dir: Path | None,
    trust: bool = False,
) -> Work:
    """Compose and check the runs of an item, and prepare their data; nothing is started.

    Args:
        item: the item.
        scale: of its scales.
        seeds: how many; None: the item's number.
        overrides: as of `train`, for all runs; those that change what is computed give results of their own.
        results: where they are kept.
        config_dir: a folder with groups of the user's own.
        trust: call the functions that the item names.

    Raises:
        InputError: something of it is not possible.
    """
    for override in overrides:
        if re.match(r"[+~]*(seed|scale|sweep)\b", override):
            raise InputError(f"{override!r} is the item's to say; choose with --seeds N and --scale S")
    if not trust and (functions := item.functions(scale)):
        raise InputError(
            f"{item.folder / 'item.yaml'} asks for the function {functions[0]}; if you trust it, add --trust"
        )
    ours = [f"sweep={scale}", *overrides]
    command_lines = item.command_lines(scale, seeds or item.seeds(scale))
    plans = [plan([*line, *ours], True, config_dir) for line in command_lines]
    runs = {result_hash(run.folder.name): run for each in reversed(plans) for run in reversed(each.runs)}
    by_seed = sorted(reversed(runs.values()), key=lambda run: run.config.seed)
    changing = sorted(override for override in overrides if _changes(command_lines, override, config_dir))
    for override in changing:
        if not re.fullmatch(r"[A-Za-z0-9_.=,-]+", override):
            raise InputError(
                f"{override!r} changes what is computed and so names a folder of results, which takes letters, digits "
                "and _ . = , -; put it into a configuration of your own (--config-dir)"
            )
    return Work(item, "+".join([scale, *changing]), by_seed, plans[0].hydra, results)


def result_hash(run_id: str) -> str:
    """The part of a run's id that is a hash of what determines its result: the same for two names of one pattern."""
    return run_id.rpartition("-")[2]


def batches(runs: Sequence[Run], at_a_time: int) -> Iterator[list[Run]]:
    """Cut runs between seeds, into pieces that keep the machine busy."""
    batch: list[Run] = []
    for run in runs:
        if len(batch) >= _RUNS_PER_BATCH * at_a_time and run.config.seed != batch[-1].config.seed:
            yield batch
            batch = []
        batch.append(run)
    if batch:
        yield batch


def _changes(command_lines: Sequence[Sequence[str]], override: str, config_dir: Path | None) -> bool:
    """Whether an override changes what is computed for some of the command lines."""

    def computed(line: Sequence[str]) -> object:
        """What the result of a line's first run depends on, with the data by name."""
        config = compose(line, True, config_dir).configs[0]
        data = {name: value for name, value in asdict(config.data).items() if name not in ("path", "cache")}
        return identify(config, str(data))

    return any(computed([*line, override]) != computed(line) for line in command_lines)


def _pairing(run: Run) -> str:
    return identify(run.config, run.data_digest).pairing


def _is_baseline(run: Run) -> bool:
    return run.config.pattern.name == "baseline"
