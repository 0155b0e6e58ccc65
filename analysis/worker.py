"""The process that measures one run of a sweep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from analysis.analyze import Effort, analyze_run
from sla_ablate.errors import InputError


def main(arguments: Sequence[str]) -> None:
    """Entry point of the process; its argument is JSON, the run's folder and the fields of an `Effort`.

    Raises:
        SystemExit: the run cannot be measured; with the reason.
    """
    run, effort = json.loads(arguments[0])
    try:
        analyze_run(Path(run), Effort(**effort))
    except (InputError, OSError) as error:
        raise SystemExit(str(error)) from None
