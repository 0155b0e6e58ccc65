"""Carry out one run, or with -m a Hydra multirun over comma-separated values."""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path
from typing import Any

from sla_ablate.commands._arguments import OUR_CONFIG, Parser, add_hydra_options, reject_flags
from sla_ablate.errors import InputError

USAGE = "[-m] [--list] [--shard I/N] [--config-dir DIR] [--config-name NAME] [--cfg WHAT] [--info] OVERRIDES…"
TAKES_OVERRIDES = True
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
_FLAGS = (
    "-m, --multirun, --list, --shard I/N, --config-dir DIR, --config-name NAME, --cfg job|hydra|all, --resolve, "
    "--package KEY, --info, --version, --help"
)


_OPTIONS = f"""\
Without -m one run; with -m one for every combination of comma-separated values.
  -m, --multirun     several runs
  --list             show the runs with their states and start nothing
  --shard I/N        carry out every N-th run only, from the I-th on: for N machines with one folder
Hydra's own options:
  --config-dir DIR   DIR/GROUP/NAME.yaml are offered beside the groups below
  --config-name NAME DIR/NAME.yaml is the primary configuration; its defaults begin with `config`, ours
  --cfg WHAT         print what is composed, job, hydra or all, and start nothing
  --resolve          have interpolations replaced there
  --package KEY      print only this key there
  --info [WHAT]      tell where it comes from: {", ".join(_INFO)}
"""


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    parser = Parser("train", add_help=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--shard", default="1/1")
    add_hydra_options(parser)
    parser.add_argument("-c", "--cfg", choices=("job", "hydra", "all"))
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("-p", "--package")
    parser.add_argument("-i", "--info", nargs="?", const="all", choices=_INFO)
    options, flags = parser.parse_known_intermixed_args(arguments)
    sources = (options.config_dir, options.config_name)
    if options.help:
        return _train_help(options)
    reject_flags(flags, _FLAGS)
    index, count = _shard(options.shard)
    if options.cfg or options.info:
        _show(options, sources)
        return 0
    if options.resolve or options.package:
        raise InputError("--resolve and --package are of use with --cfg only")
    from sla_ablate.launch.plan import plan as make_plan
    from sla_ablate.runs.provenance import command_line

    plan = make_plan(options.overrides, options.multirun, *sources, tokenize=not options.list)
    command = command_line("train", arguments)
    if plan.space is not None:
        if options.list or count > 1:
            raise InputError(
                "--list and --shard need runs that are known before; hydra/sweeper=optuna chooses them later"
            )
        from sla_ablate.launch.tune import tune

        return tune(plan.space, plan.hydra, *sources, command)
    runs = plan.runs[index - 1 :: count]
    if options.list:
        from sla_ablate.runs import ledger, status

        print(status.table([ledger.cell(run.folder) if run.tokenized else ledger.unknown(run.config) for run in runs]))
        if not all(run.tokenized for run in runs):
            print("unknown until the corpus is tokenized, as `sla-ablate prepare` does: the ends of ids, and states")
        return 0
    from sla_ablate.launch.launch import carry_out_all, tell_after

    if plan.asked != len(plan.runs):
        print(f"{plan.asked} asked for, ", end="")
    code = carry_out_all(runs, plan.hydra, command)
    tell_after(runs)
    return code


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f"--shard {text} is no share; write I/N with I from 1 to N, such as 2/4")
    return int(found[1]), int(found[2])


def _show(options: Namespace, sources: tuple[Path | None, str]) -> None:
    from sla_ablate.config.compose import print_info, show

    if options.multirun or (options.cfg and options.info):
        raise InputError("only one of -m, --cfg and --info is possible")
    if options.cfg:
        print(show(options.overrides, options.cfg, options.resolve, options.package, *sources), end="")
    else:
        print_info(options.overrides, options.info, *sources)


def _train_help(options: Namespace) -> int:
    from sla_ablate.config.reference import describe

    names = [text for text in options.overrides if "=" not in text]
    own: tuple[Any, ...] = ()
    if options.config_name != OUR_CONFIG:
        from sla_ablate.config.compose import primary

        own = primary(options.config_dir, options.config_name)
    if not names:
        print(f"usage: sla-ablate train {USAGE}\n")
        print(_OPTIONS)
    print(describe(names, options.config_dir, *own), end="")
    return 0
