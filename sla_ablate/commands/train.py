"""Carry out one run, or with -m a Hydra multirun over comma-separated values."""

from __future__ import annotations

import re
from pathlib import Path

from sla_ablate.commands._arguments import Parser, add_config_dir, reject_flags
from sla_ablate.errors import InputError

USAGE = "[-m] [--list] [--shard I/N] [--config-dir DIR] OVERRIDES…"
TAKES_OVERRIDES = True


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    parser = Parser("train", add_help=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--shard", default="1/1")
    add_config_dir(parser)
    options, flags = parser.parse_known_intermixed_args(arguments)
    if options.help:
        return _train_help(options.config_dir)
    reject_flags(flags, "-m, --multirun, --list, --shard I/N, --config-dir DIR, --help")
    index, count = _shard(options.shard)
    from sla_ablate.launch.plan import plan as make_plan
    from sla_ablate.runs.provenance import command_line

    plan = make_plan(options.overrides, options.multirun, options.config_dir, tokenize=not options.list)
    command = command_line("train", arguments)
    if plan.space is not None:
        if options.list or count > 1:
            raise InputError(
                "--list and --shard need runs that are known before; hydra/sweeper=optuna chooses them later"
            )
        from sla_ablate.launch.tune import tune

        return tune(plan.space, plan.hydra, options.config_dir, command)
    runs = plan.runs[index - 1 :: count]
    if options.list:
        from sla_ablate.runs import ledger, status

        print(status.table([ledger.cell(run.folder) if run.tokenized else ledger.unknown(run.config) for run in runs]))
        if not all(run.tokenized for run in runs):
            print("unknown until the corpus is tokenized, as `sla-ablate prepare` does: the ends of ids, and states")
        return 0
    from sla_ablate.launch.launch import carry_out_all

    if plan.asked != len(plan.runs):
        print(f"{plan.asked} asked for, ", end="")
    return carry_out_all(runs, plan.hydra, command)


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f"--shard {text} is no share; write I/N with I from 1 to N, such as 2/4")
    return int(found[1]), int(found[2])


def _train_help(config_dir: Path | None) -> int:
    from sla_ablate.config.compose import describe

    print(f"usage: sla-ablate train {USAGE}\n")
    print("Without -m one run; with -m one for every combination of comma-separated values.")
    print("--list shows the runs with their states and starts nothing.")
    print("--shard I/N carries out every N-th run only, from the I-th on: for N machines with one folder.")
    print("--config-dir DIR is Hydra's: DIR/GROUP/NAME.yaml are offered beside the groups below.\n")
    print(describe(config_dir), end="")
    return 0
