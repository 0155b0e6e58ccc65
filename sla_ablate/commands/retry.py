"""Carry out what has not ended in a sweep: failed, interrupted and waiting runs."""

from __future__ import annotations

from pathlib import Path

from sla_ablate.commands._arguments import Parser, add_hydra_options, add_trust

USAGE = "SWEEP [--trust] [--config-dir DIR] [--config-name NAME] [OVERRIDES…]"

_OVERRIDES = (
    "limits.KEY=VALUE, trainer.KEY=VALUE (but the precision), logger=NAME, logger.KEY=VALUE, data.path=PATH; of "
    "Hydra's own hydra/launcher=NAME, hydra.launcher.KEY=VALUE"
)


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    parser = Parser("retry")
    parser.add_argument("sweep", type=Path, help="folder of a sweep, such as runs/demo")
    parser.add_argument("overrides", nargs="*", help=_OVERRIDES)
    add_trust(parser)
    add_hydra_options(parser)
    options = parser.parse_intermixed_args(arguments)
    from sla_ablate.launch.launch import carry_out_all, tell_after
    from sla_ablate.launch.plan import stored_plan
    from sla_ablate.runs.provenance import command_line
    from sla_ablate.runs.sweep import check_all_read, tell_others

    plan = stored_plan(options.sweep, options.overrides, options.config_dir, options.config_name, options.trust)
    tell_others(plan.left_out)
    code = carry_out_all(plan.runs, plan.hydra, command_line("retry", arguments))
    tell_after(plan.runs)
    check_all_read(plan.left_out)
    return code
