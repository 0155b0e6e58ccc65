"""Write the model of a finished run as a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path

from sla_ablate.commands._arguments import Parser, add_force, check_no_run
from sla_ablate.errors import InputError

USAGE = "RUN OUT [--force]"


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    parser = Parser("export")
    parser.add_argument("run", type=Path, help="folder of a finished run, such as runs/demo/baseline-s0-1a2b3c4d")
    parser.add_argument("out", type=Path, help="folder to write to")
    add_force(parser)
    options = parser.parse_args(arguments)
    check_no_run("OUT", options.out)
    from sla_ablate.text.telling import tell, tell_aside, waiting

    with waiting(f"writing the model of {options.run}", tell_aside):
        try:
            from sla_ablate.runs.export import export
        except ModuleNotFoundError as error:
            raise InputError(f"{error.name} is not installed; run: pip install 'sla-ablate[hf]'") from None

        export(options.run, options.out, options.force)
    tell(str(options.out))
    return 0
