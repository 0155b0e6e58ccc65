"""What it takes to carry out runs: tokens, FLOPs and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sla_ablate.config.schema import RunConfig
from sla_ablate.launch.plan import Run
from sla_ablate.patterns.costs import costs
from sla_ablate.text.words import duration


@dataclass(frozen=True)
class Estimate:
    """What some runs take."""

    runs: int
    tokens: int
    flops: float
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.runs} run(s) to do: {self.tokens / 1e6:,.1f} M tokens, {self.flops / 1e15:,.2f} PFLOP, "
            f"about {duration(self.seconds)}"
        )


def estimate(runs: Sequence[Run], at_a_time: int, speed: Callable[[RunConfig, int], float]) -> Estimate:
    """Weigh runs.

    Args:
        runs: what is to be done.
        at_a_time: how many go on at a time.
        speed: measures tokens a second of a configuration with so many tokens of vocabulary; asked once for each shape
            of model and batch.
    """
    speeds: dict[str, float] = {}
    tokens, flops, seconds = 0, 0.0, 0.0
    for run in runs:
        o, shape = run.config.optim, run.config.gpt_config(run.vocab_size)
        key = repr((shape, o.batch_size, o.micro_batches))
        if key not in speeds:
            speeds[key] = speed(run.config, run.vocab_size)
        mine = o.steps * o.batch_size * shape.block_size
        tokens += mine
        flops += mine * costs(shape, run.config.skip_pattern()).training_flops_per_token
        seconds += mine / speeds[key]
    return Estimate(len(runs), tokens, flops, seconds / max(1, at_a_time))
