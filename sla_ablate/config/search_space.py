"""What Optuna may choose from, in Hydra's grammar of sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from sla_ablate.errors import InputError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution  # not installed unless asked for

MOST_VALUES = 100_000
"""More values than a range in which one searches has."""


@dataclass(frozen=True)
class SearchSpace:
    """Overrides of which some are to be chosen."""

    fixed: list[str]
    chosen: dict[str, BaseDistribution]
    """What each key, as it is written in an override, is chosen from."""

    @classmethod
    def of(cls, overrides: Sequence[Override]) -> SearchSpace:
        """Make a space from parsed overrides; of two with the same key the later one counts.

        Raises:
            InputError: there is nothing to choose, or a sweep is of another kind.
        """
        latest = {o.get_key_element(): o for o in overrides}
        chosen = {key: _distribution(o) for key, o in latest.items() if o.is_sweep_override()}
        if not chosen:
            raise InputError(
                "hydra/sweeper=optuna has nothing to choose; add for example 'optim.lr=tag(log,interval(1e-3,1e-2))'"
            )
        return cls([str(o.input_line) for o in latest.values() if not o.is_sweep_override()], chosen)

    def cell(self, values: dict[str, Any]) -> list[str]:
        """The overrides of one run."""
        return [*self.fixed, *(f"{key}={value}" for key, value in values.items())]

    def corners(self) -> list[list[str]]:
        """The cells of every combination of categories and of the ends of ranges: what can be checked beforehand."""
        return [
            self.cell(dict(zip(self.chosen, ends, strict=True))) for ends in product(*map(_ends, self.chosen.values()))
        ]


def _distribution(override: Override) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution

    sweep: Any = override.value()
    try:
        if override.is_choice_sweep():
            return CategoricalDistribution(list(override.sweep_string_iterator()))
        if isinstance(sweep, RangeSweep):
            values = sorted(islice(sweep.range(), MOST_VALUES + 1))
            if len(values) > MOST_VALUES:
                raise ValueError(f"it has more than {MOST_VALUES:,} values; write interval(…)")
            return _numbers(values[0], values[-1], log="log" in sweep.tags, step=abs(sweep.step))
        if isinstance(sweep, IntervalSweep):
            return _numbers(sweep.start, sweep.end, log="log" in sweep.tags)
    except (ValueError, ArithmeticError, IndexError) as error:
        raise InputError(f"{override.input_line!r} cannot be searched: {error}") from None
    raise InputError(f"{override.input_line!r} cannot be searched; write a,b,c or glob(…), range(…) or interval(…)")


def _numbers(low: Any, high: Any, **options: Any) -> BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    kind = IntDistribution if isinstance(low, int) and isinstance(high, int) else FloatDistribution
    return kind(low, high, **options)


def _ends(distribution: BaseDistribution) -> Sequence[Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return (distribution.low, distribution.high)
