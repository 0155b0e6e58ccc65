"""The command line. Imports nothing heavy before it knows what is asked."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sla_ablate.errors import InputError, unknown

USAGE = """\
Ablate and reproduce Skip-Layer Attention and its relatives.

usage: sla-ablate COMMAND …

commands:
  train [-m] OVERRIDES…         one run, or with -m a Hydra multirun over comma-separated values
  report SWEEP [--out DIR]      tables (Markdown, CSV) and the figure of a sweep
  prepare OVERRIDES…            tokenize a corpus ahead of time: data=…, data.path=…

examples:
  sla-ablate train experiment=demo hydra/launcher=local
  sla-ablate train -m pattern=baseline,sla pattern.distance=1,3,5 seed=0,1 sweep=distance
  sla-ablate train data.path='corpus/*.jsonl.zst' model=nano pattern=sla pattern.distance=9
  sla-ablate report runs/distance

Overrides are Hydra's: GROUP=NAME or KEY=VALUE; `sla-ablate train --help` lists them.
Completion: eval "$(sla-ablate --shell-completion install=bash)" (or zsh, fish)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `sla-ablate`; exits with 0, 1 (a run failed), 2 (bad input) or 130 (interrupted)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(_dispatch(arguments))
    except InputError as error:
        for line in str(error).splitlines():
            print(f"sla-ablate: {line}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    command, rest = arguments[0], arguments[1:]
    if command in ("-sc", "--shell-completion"):
        return _complete(rest)
    commands = {"train": _train, "report": _report, "prepare": _prepare}
    if command not in commands:
        raise unknown("command", command, commands)
    return commands[command](rest)


def _train(arguments: list[str]) -> int:
    multirun = any(a in ("-m", "--multirun") for a in arguments)
    overrides = [a for a in arguments if a not in ("-m", "--multirun")]
    if "-h" in overrides or "--help" in overrides:
        return _train_help()
    _reject_flags(overrides, "-m, --multirun, --help")
    from sla_ablate import sweep

    plan = sweep.plan(overrides, multirun)
    before = sweep.states(plan.runs)
    asked = f"{plan.asked} asked for, " if plan.asked != len(plan.runs) else ""
    print(f"{asked}{len(plan.runs)} run(s), {before.count('done')} already done", flush=True)
    if before.count("done") < len(plan.runs):
        sweep.launch(overrides, multirun)
    after = sweep.states(plan.runs)
    print(", ".join(f"{after.count(state)} {state}" for state in sorted(set(after))), flush=True)
    return 1 if "failed" in after else 0


def _train_help() -> int:
    from sla_ablate import sweep

    print("usage: sla-ablate train [-m] OVERRIDES…\n")
    print("Without -m one run; with -m one for every combination of comma-separated values.\n")
    print(sweep.describe(), end="")
    return 0


def _report(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="sla-ablate report")
    parser.add_argument("sweep", type=Path, help="folder of a sweep, such as runs/demo")
    parser.add_argument("--out", type=Path, help="folder to write to (default: SWEEP/report)")
    options = parser.parse_args(arguments)
    from analysis.report import write_report

    print(write_report(options.sweep, options.out), end="")
    return 0


def _prepare(overrides: list[str]) -> int:
    _reject_flags(overrides, "none")
    from sla_ablate import sweep
    from sla_ablate.data.shards import prepare

    (config,) = sweep.compose_all(overrides)
    shards = prepare(config.data)
    for split, counts in shards.manifest["splits"].items():
        print(f"{split}: {counts['documents']:,} documents, {counts['tokens']:,} tokens, {counts['bytes']:,} bytes")
    print(shards.folder)
    return 0


def _reject_flags(overrides: list[str], allowed: str) -> None:
    for override in overrides:
        if override.startswith("-"):
            raise InputError(f"option {override!r} is unknown; allowed: {allowed}")


def _complete(arguments: list[str]) -> int:
    """Hydra's completion, with the command's name taken out of the line that it looks at."""
    line = os.environ.get("COMP_LINE", "")
    words = line.split()
    if "install" in " ".join(arguments) or "uninstall" in " ".join(arguments):
        pass
    elif len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
        prefix = words[1] if len(words) == 2 else ""
        print("\n".join(c for c in ("train", "report", "prepare") if c.startswith(prefix)))
        return 0
    elif words[1] not in ("train", "prepare"):
        return 0
    else:
        os.environ["COMP_LINE"] = line.replace(f" {words[1]}", "", 1)
    from sla_ablate import sweep

    sweep.hydra_main(["--shell-completion", *arguments])
    return 0
