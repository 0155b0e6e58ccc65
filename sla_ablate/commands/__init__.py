"""The command line: a file a command, found by its name; nothing heavy is imported before it is known what is asked.

A command's file has a docstring (its line in the help), `USAGE` (what follows its name), `run(arguments)`, which
returns the exit code, and for completion `TAKES_OVERRIDES = True` if its arguments are Hydra's overrides, or `words()`.
Files whose names begin with an underscore are no commands.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from sla_ablate import __version__
from sla_ablate.errors import InputError, unknown
from sla_ablate.processes.environment import settled
from sla_ablate.text import escape, streams

_WIDTH = 40
_HEADER = """\
Ablate and reproduce Skip-Layer Attention and its relatives.

usage: sla-ablate COMMAND …

commands:
"""
_FOOTER = """
examples:
  sla-ablate train experiment=demo hydra/launcher=local
  sla-ablate train -m pattern=baseline,sla pattern.distance=1,3,5 seed=0,1 sweep=distance
  sla-ablate train data.path='corpus/*.jsonl.zst' model=nano pattern=sla
  sla-ablate train experiment=tune hydra.sweeper.n_trials=30
  sla-ablate status runs/distance
  sla-ablate analyze runs/distance
  sla-ablate report runs/distance
  sla-ablate verify runs/distance
  sla-ablate figure layers runs/distance
  sla-ablate patterns model=gpt2 pattern=sla pattern.distance=9 --svg sla.svg
  sla-ablate generate runs/demo/RUN "My fellow Americans" --max-new-tokens 50

Overrides are Hydra's: GROUP=NAME or KEY=VALUE; `sla-ablate train --help` lists them.
Completion: eval "$(sla-ablate --shell-completion install=bash)" (or zsh, fish)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `sla-ablate`; exits with 0, 1 (a run failed or diverged), 2 (bad input) or 130 (interrupted)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    variables = settled(os.environ)
    for name in os.environ.keys() - variables:
        del os.environ[name]
    os.environ.update(variables)
    streams.settle()
    _replace_what_cannot_be_shown()
    if arguments[:1] != ["status"]:  # which may be told to watch
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # that the terminal is gone ends nothing
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        sys.exit(code)
    except InputError as error:
        for line in str(error).splitlines():
            print(f"sla-ablate: {escape.line(_as_typed(line, arguments))}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise  # not one of a file that was named: for this a traceback is needed
        print(f"sla-ablate: {escape.line(error.filename)}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _replace_what_cannot_be_shown() -> None:
    """Have characters that the terminal's encoding lacks replaced, in the processes to come too, but never in files."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # Python does it for stderr
        os.environ["PYTHONIOENCODING"] = f"{sys.stdout.encoding}:replace"


def _as_typed(line: str, arguments: Sequence[str]) -> str:
    """A message in which numbers of overrides stand as the user wrote them: 1e40, not 1e+40."""
    for argument in arguments:
        key, _, values = argument.partition("=")
        for text in values.split(","):
            for kind in (int, float):
                with suppress(ValueError):
                    told = re.escape(f"{key}={kind(text)}")
                    line = re.sub(rf"(?<![\w.]){told}(?![\w.])", f"{key}={text}".replace("\\", r"\\"), line)
    return line


def names() -> list[str]:
    """The commands that there are."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def _command(name: str) -> ModuleType:
    return import_module(f"sla_ablate.commands.{name}")


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help(), end="")
        return 0
    if arguments[0] == "--version":
        print(f"sla-ablate {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name in ("-sc", "--shell-completion"):
        return _complete(rest)
    if name not in names():
        raise unknown("command", name, names())
    try:
        code: int = _command(name).run(rest)
    except ImportError as error:
        _check_not_hidden(error)
        raise
    return code


def _check_not_hidden(error: ImportError) -> None:
    """Raise an InputError if what cannot be imported is hidden by a user's own package `analysis`."""
    spec = find_spec("analysis")
    if spec and spec.origin and Path(spec.origin).parents[1] != Path(__file__).parents[2]:
        folder = Path(spec.origin).parent
        raise InputError(
            f"{folder} hides the package `analysis` of sla-ablate; rename it, work in another folder, or leave it off "
            "PYTHONPATH"
        ) from error


def _help() -> str:
    lines = []
    for name in names():
        module = _command(name)
        usage, summary = f"  {name} {module.USAGE}", str(module.__doc__)
        if len(usage) >= _WIDTH:
            lines.append(usage)
            usage = ""
        lines.append(f"{usage:<{_WIDTH}}{summary}")
    return _HEADER + "\n".join(lines) + "\n" + _FOOTER


def _complete(arguments: list[str]) -> int:
    """Print what a shell asks for: the words that complete its line, or the script that will ask for them."""
    if "install" in " ".join(arguments):  # or uninstall
        from sla_ablate.config.compose import install_completion

        install_completion(arguments)
        return 0
    name, space, rest = os.environ.get("COMP_LINE", "").partition(" ")[2].lstrip().partition(" ")
    if not space:
        print("\n".join(command for command in names() if command.startswith(name)))
    elif name in names():
        from sla_ablate.commands._completion import words

        print("\n".join(words(_command(name), rest)))
    return 0
