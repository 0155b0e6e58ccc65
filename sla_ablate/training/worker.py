"""The process of one run: `python -m sla_ablate.training.worker RUN_FOLDER`.

Success is only what the record says. Exit codes: 0 done or diverged; 1 failed, and the last line of the log says why;
75 (`sla_ablate.processes.signals.INTERRUPTED`) a signal ended it, and the same command goes on.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from sla_ablate.errors import InputError
from sla_ablate.processes.signals import Interruption
from sla_ablate.text.telling import Voice


def main(arguments: Sequence[str]) -> None:
    """Entry point of the process; `sla_ablate.training.attempt` is what it imports slowly.

    Raises:
        SystemExit: the run is not done.
    """
    interruption = Interruption()
    interruption.listen()
    folder = Path(arguments[0])
    say = Voice(folder.name, log=sys.stderr)
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    from sla_ablate.training.attempt import attempt  # takes seconds, in which a signal counts already

    try:
        attempt(folder, interruption, say)
    except InputError as error:
        reason = str(error)
    except OSError as error:
        if error.filename is None:
            raise  # not one of a file: for this a traceback is needed
        reason = f"{error.filename}: {error.strerror}"
    else:
        return
    say(reason)
    raise SystemExit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
