"""Whether what the user asks for is of use to any run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.types import Override

from sla_ablate.config.schema import RunConfig
from sla_ablate.errors import InputError

OPEN = "pattern.options"
"""The one key below which there may be any other."""


def check_used(overrides: Sequence[Override], configs: Sequence[RunConfig]) -> None:
    """Refuse an option of patterns that none of the runs has a use for.

    In a sweep over patterns it is enough that one has: the others are the same run for all of its values.

    Args:
        overrides: those of a command line, with those of an experiment's sweep.
        configs: the runs that they come to.

    Raises:
        InputError: there is one, in one line with the options that there are.
    """
    given = {option: key for override in overrides for option, key in _options(override)}
    if not given:
        return
    try:
        uses = {config.pattern_name: config.mechanism().options for config in configs}
    except InputError:
        return  # the pattern's own fault, which is told where the pattern is made
    used = sorted(set().union(*uses.values()))
    for option, key in given.items():
        own = key.startswith(OPEN) and any(":" in name for name in uses)  # which the function itself refuses
        if option not in used and not own:
            raise InputError(
                f"{key} is of no use to pattern {', '.join(sorted(uses))}; "
                + (f"options are {', '.join(used)}" if used else "it has no options")
            )


def _options(override: Override) -> Iterator[tuple[str, str]]:
    """The pattern's options that an override sets, each with its key."""
    key = override.key_or_group
    if key == OPEN:
        values: list[Any] = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
        yield from ((str(option), f"{OPEN}.{option}") for value in values if value for option in value)
    elif key.startswith("pattern.") and key not in ("pattern.name", "pattern.label"):
        yield key.removeprefix(f"{OPEN}.").removeprefix("pattern.").split(".")[0], key
