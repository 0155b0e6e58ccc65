"""The command line. Imports nothing heavy before it knows what is asked."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from sla_ablate.errors import InputError, unknown

USAGE = """\
Ablate and reproduce Skip-Layer Attention and its relatives.

usage: sla-ablate COMMAND …

commands:
  train [-m] OVERRIDES…         one run, or with -m a Hydra multirun over comma-separated values
  status [SWEEP] [--watch] [--json]
                                how far every run of a sweep is
  retry SWEEP                   carry out what is not done in a sweep: failed, interrupted and waiting runs
  analyze SWEEP [--tokens N] [--query-rows N] [--stride N] [--jobs N]
                                measure the heads of every done run, into two tables in SWEEP/analysis
  report SWEEP [--out DIR]      tables (Markdown, CSV) and the figure of a sweep
  figure NAME SWEEP [--out DIR] [--run RUN]
                                a figure of an analyzed sweep, or all of them, as SVG, PDF and PNG
  prepare OVERRIDES…            tokenize a corpus ahead of time: data=…, data.path=…
  patterns [OVERRIDES…] [--svg FILE]
                                the family of patterns with its costs, or one pattern's tables, diagram and costs
  generate RUN [PROMPT]         continue a text with the model of a finished run
  export RUN OUT                write the model of a finished run as a Hugging Face folder

examples:
  sla-ablate train experiment=demo hydra/launcher=local
  sla-ablate train -m pattern=baseline,sla pattern.distance=1,3,5 seed=0,1 sweep=distance
  sla-ablate train data.path='corpus/*.jsonl.zst' model=nano pattern=sla
  sla-ablate train experiment=tune hydra.sweeper.n_trials=30
  sla-ablate status runs/distance
  sla-ablate analyze runs/distance
  sla-ablate report runs/distance
  sla-ablate figure layers runs/distance
  sla-ablate patterns model=gpt2 pattern=sla pattern.distance=9 --svg sla.svg
  sla-ablate generate runs/demo/RUN "My fellow Americans" --max-new-tokens 50

Overrides are Hydra's: GROUP=NAME or KEY=VALUE; `sla-ablate train --help` lists them.
Completion: eval "$(sla-ablate --shell-completion install=bash)" (or zsh, fish)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `sla-ablate`; exits with 0, 1 (a run failed), 2 (bad input) or 130 (interrupted)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        sys.exit(code)
    except InputError as error:
        for line in str(error).splitlines():
            print(f"sla-ablate: {line}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output has ended, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # lest it be flushed once more
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise  # not one of a file that was named: for this a traceback is needed
        print(f"sla-ablate: {error.filename}: {error.strerror}", file=sys.stderr)
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
    if command not in COMMANDS:
        raise unknown("command", command, COMMANDS)
    return COMMANDS[command](rest)


def _train(arguments: list[str]) -> int:
    parser = _Parser("train", add_help=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--shard", default="1/1")
    options, flags = parser.parse_known_intermixed_args(arguments)
    if options.help:
        return _train_help()
    _reject_flags(flags, "-m, --multirun, --list, --shard I/N, --help")
    index, count = _shard(options.shard)
    from sla_ablate.config import compose as sweep
    from sla_ablate.runs import ledger

    plan = sweep.plan(options.overrides, options.multirun)
    if plan.space is not None:
        if options.list or count > 1:
            raise InputError(
                "--list and --shard need runs that are known before; hydra/sweeper=optuna chooses them later"
            )
        from sla_ablate.launch.tune import tune

        return tune(plan.space, plan.hydra)
    runs = plan.runs[index - 1 :: count]
    if options.list:
        from sla_ablate.runs import status

        print(status.table([ledger.cell(run.folder) for run in runs]))
        return 0
    from sla_ablate.launch.launch import carry_out_all

    if plan.asked != len(plan.runs):
        print(f"{plan.asked} asked for, ", end="")
    return carry_out_all(runs, plan.hydra)


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f"--shard {text} is no share; write I/N with I from 1 to N, such as 2/4")
    return int(found[1]), int(found[2])


def _retry(arguments: list[str]) -> int:
    parser = _Parser("retry")
    parser.add_argument("sweep", type=Path, help="folder of a sweep, such as runs/demo")
    parser.add_argument("overrides", nargs="*", help="Hydra's own: hydra/launcher=NAME, hydra.launcher.KEY=VALUE")
    options = parser.parse_intermixed_args(arguments)
    from sla_ablate.config import compose as sweep
    from sla_ablate.launch.launch import carry_out_all

    plan = sweep.stored_plan(options.sweep, options.overrides)
    return carry_out_all(plan.runs, plan.hydra)


def _status(arguments: list[str]) -> int:
    parser = _Parser("status")
    parser.add_argument("sweep", type=Path, nargs="?", help="folder of a sweep (default: all under runs/)")
    parser.add_argument("--watch", action="store_true", help="again every two seconds, until nothing is ahead")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    from sla_ablate.runs import status

    status.show(options.sweep, options.watch, options.json)
    return 0


def _train_help() -> int:
    from sla_ablate.config import compose as sweep

    print("usage: sla-ablate train [-m] [--list] [--shard I/N] OVERRIDES…\n")
    print("Without -m one run; with -m one for every combination of comma-separated values.")
    print("--list shows the runs with their states and starts nothing.")
    print("--shard I/N carries out every N-th run only, from the I-th on: for N machines with one folder.\n")
    print(sweep.describe(), end="")
    return 0


def _analyze(arguments: list[str]) -> int:
    parser = _Parser("analyze")
    parser.add_argument("sweep", type=Path, help="folder of a sweep, such as runs/demo")
    parser.add_argument("--tokens", type=int, default=8192, metavar="N", help="of the validation split (default: 8192)")
    parser.add_argument(
        "--query-rows",
        type=int,
        default=256,
        metavar="N",
        help="rows a window from which pairwise divergence is estimated; all, if there are no more (default: 256)",
    )
    parser.add_argument(
        "--stride", type=int, metavar="N", help="also score the split in windows that overlap, N tokens apart"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at a time, on one core each (default: all cores)")
    options = parser.parse_args(arguments)
    if options.jobs is not None and options.jobs < 1:
        raise InputError(f"--jobs {options.jobs} is not possible; choose 1 or more")
    from analysis.analyze import Effort, analyze
    from sla_ablate.config.compose import parallel_runs

    effort = Effort(options.tokens, options.query_rows, options.stride)
    return 0 if analyze(options.sweep, effort, options.jobs or parallel_runs(1, 1, "cpu")) else 1


def _report(arguments: list[str]) -> int:
    parser = _Parser("report")
    parser.add_argument("sweep", type=Path, help="folder of a sweep, such as runs/demo")
    parser.add_argument("--out", type=Path, help="folder to write to (default: SWEEP/report)")
    options = parser.parse_args(arguments)
    from analysis.report import write_report

    print(write_report(options.sweep, options.out), end="")
    return 0


def _figure(arguments: list[str]) -> int:
    from analysis.figures import FIGURES, OF_RUNS, write_figures

    questions = [f"  {name:<18}{str(draw.__doc__).splitlines()[0]}" for name, draw in FIGURES.items()]
    parser = _Parser(
        "figure", epilog="\n".join(["figures:", *questions]), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="one of those below, or all")
    parser.add_argument("sweep", type=Path, help="folder of an analyzed sweep, such as runs/demo")
    parser.add_argument("--out", type=Path, help="folder to write to (default: SWEEP/figures)")
    parser.add_argument("--run", help=f"id or folder of the one run to show, of {', '.join(OF_RUNS)}")
    options = parser.parse_args(arguments)
    for path in write_figures(options.name, options.sweep, options.out, options.run):
        print(path, flush=True)
    return 0


def _prepare(overrides: list[str]) -> int:
    _reject_flags(overrides, "none")
    from sla_ablate.config import compose as sweep
    from sla_ablate.data.shards import prepare

    (config,) = sweep.compose_all(overrides)
    shards = prepare(config.data)
    for split, counts in shards.manifest["splits"].items():
        print(f"{split}: {counts['documents']:,} documents, {counts['tokens']:,} tokens, {counts['bytes']:,} bytes")
    print(shards.folder)
    return 0


def _patterns(arguments: list[str]) -> int:
    parser = _Parser("patterns")
    parser.add_argument("overrides", nargs="*", help="as of train; without a pattern: the whole family")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the pattern as an SVG picture")
    options, flags = parser.parse_known_intermixed_args(arguments)
    _reject_flags(flags, "--svg FILE, --help")
    from sla_ablate.config import compose as sweep
    from sla_ablate.files import write_atomically
    from sla_ablate.patterns import catalogue

    if any(re.match(r"[+~]*(pattern|experiment)=", override) for override in options.overrides):
        configs = sweep.compose_all(options.overrides, multirun=True)
        # Runs that differ only in what no pattern depends on, such as the seed, are told once.
        sections = list(dict.fromkeys(map(catalogue.describe, configs)))
        if options.svg:
            write_atomically(options.svg, catalogue.draw(configs).encode())
    elif options.svg:
        raise InputError("--svg draws one pattern; choose it with pattern=NAME")
    else:
        names = sweep.choices("pattern")
        configs = sweep.compose_all([*options.overrides, f"pattern={','.join(names)}"], multirun=True)
        families = (configs[i : i + len(names)] for i in range(0, len(configs), len(names)))
        sections = [catalogue.family(dict(zip(names, members, strict=True))) for members in families]
    print("\n\n".join(sections), end="")
    return 0


def _generate(arguments: list[str]) -> int:
    parser = _Parser("generate")
    parser.add_argument("run", type=Path, help="folder of a finished run, such as runs/demo/baseline-s0-1a2b3c4d")
    parser.add_argument("prompt", nargs="?", default="", help="text to continue (default: the start of a document)")
    parser.add_argument("--max-new-tokens", type=int, default=200, metavar="N", help="stops before at end of text")
    parser.add_argument("--temperature", type=float, default=1.0, help="0: always the likeliest token (default: 1)")
    parser.add_argument("--top-k", type=int, metavar="K", help="draw among the K likeliest tokens only")
    parser.add_argument("--top-p", type=float, metavar="P", help="draw among the likeliest, of probability P together")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    options = parser.parse_args(arguments)
    if not 0 <= options.seed < 2**63:
        raise InputError(f"--seed {options.seed} is not possible; choose 0 to {2**63 - 1}")
    if any("\ud800" <= character <= "\udfff" for character in options.prompt):  # bytes that Python could not decode
        raise InputError(f"the prompt {options.prompt!r} is not UTF-8")
    import torch

    from sla_ablate.runs.trained import load_run

    model, tokenizer = load_run(options.run)
    end_of_text = tokenizer.end_of_text
    prompt = torch.tensor([[end_of_text, *tokenizer.encode_batch([options.prompt])[0].tolist()]])
    tokens = model.generate(
        prompt,
        options.max_new_tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        generator=torch.Generator().manual_seed(options.seed),
        stop_token=end_of_text,
    )
    print(tokenizer.decode(t for t in tokens[0].tolist() if t != end_of_text))
    return 0


def _export(arguments: list[str]) -> int:
    parser = _Parser("export")
    parser.add_argument("run", type=Path, help="folder of a finished run, such as runs/demo/baseline-s0-1a2b3c4d")
    parser.add_argument("out", type=Path, help="folder to write to")
    options = parser.parse_args(arguments)
    try:
        from sla_ablate.runs.export import export
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed; run: pip install {error.name}") from None

    export(options.run, options.out)
    print(options.out)
    return 0


def _reject_flags(overrides: list[str], allowed: str) -> None:
    for override in overrides:
        if override.startswith("-"):
            raise InputError(f"option {override!r} is unknown; allowed: {allowed}")


class _Parser(argparse.ArgumentParser):
    """Takes options by their full names only, and tells what is wrong in one line."""

    def __init__(self, command: str, **options: Any) -> None:
        super().__init__(prog=f"sla-ablate {command}", allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def _complete(arguments: list[str]) -> int:
    """Completes the command's name; what follows it is Hydra's, which must not see the command."""
    installing = "install" in " ".join(arguments)  # or uninstalling
    if not installing:
        line = os.environ.get("COMP_LINE", "")
        command, space, _ = line.partition(" ")[2].lstrip().partition(" ")
        if not space:
            print("\n".join(name for name in COMMANDS if name.startswith(command)))
            return 0
        if command not in TAKES_OVERRIDES:
            return 0
        os.environ["COMP_LINE"] = line.replace(f" {command}", "", 1)
    from sla_ablate.config import compose as sweep

    sweep.complete(["--shell-completion", *arguments])
    return 0


COMMANDS = {
    "train": _train,
    "status": _status,
    "retry": _retry,
    "analyze": _analyze,
    "report": _report,
    "figure": _figure,
    "prepare": _prepare,
    "patterns": _patterns,
    "generate": _generate,
    "export": _export,
}
TAKES_OVERRIDES = ("train", "prepare", "patterns")
