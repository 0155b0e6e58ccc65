"""What the commands have in common in reading their arguments."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from sla_ablate.errors import InputError


class Parser(argparse.ArgumentParser):
    """A parser that takes options by their full names only and tells what is wrong in one line."""

    def __init__(self, command: str, **options: Any) -> None:
        super().__init__(prog=f"sla-ablate {command}", allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise an InputError instead of printing the usage."""
        raise InputError(message)


def add_config_dir(parser: Parser) -> None:
    """Have a parser know Hydra's `--config-dir`, a folder with groups beside ours."""
    parser.add_argument("--config-dir", type=_folder, metavar="DIR", help="folder with groups of your own beside ours")


def add_force(parser: Parser) -> None:
    """Have a parser know `--force`, without which nothing of others is overwritten."""
    parser.add_argument("--force", action="store_true", help="write there whatever it holds")


def add_trust(parser: Parser) -> None:
    """Have a parser know `--trust`, without which what a run's folder names outside it is neither read nor called."""
    parser.add_argument(
        "--trust",
        action="store_true",
        help="read the corpora, call the functions and tell the loggers that the runs' own config.yaml name",
    )


def _folder(text: str) -> Path:
    if not (path := Path(text)).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no folder")
    return path


def reject_flags(arguments: Sequence[str], allowed: str) -> None:
    """Raise an InputError that names the first option among the arguments, none of which a command knows."""
    for argument in arguments:
        if argument.startswith("-"):
            raise InputError(f"option {argument!r} is unknown; allowed: {allowed}")
