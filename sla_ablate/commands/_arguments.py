"""What the commands have in common in reading their arguments."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from sla_ablate import __version__
from sla_ablate.bounds import Bounds
from sla_ablate.errors import InputError
from sla_ablate.files import absolute

OUR_CONFIG = "config"
"""Our primary configuration, `conf/config.yaml`."""
_KINDS = {int: "whole number", float: "number"}


class Parser(argparse.ArgumentParser):
    """A parser that takes options by their full names only, knows `~`, and tells what is wrong in one line."""

    def __init__(self, command: str, **options: Any) -> None:
        super().__init__(prog=f"sla-ablate {command}", allow_abbrev=False, **options)
        self.register("type", Path, _path)

    def error(self, message: str) -> NoReturn:
        """Raise an InputError instead of printing the usage."""
        raise InputError(message)


def add_config_dir(parser: Parser) -> None:
    """Have a parser know Hydra's `--config-dir`, a folder with groups beside ours."""
    parser.add_argument(
        "-cd", "--config-dir", type=_folder, metavar="DIR", help="folder with groups of your own beside ours"
    )


def add_hydra_options(parser: Parser) -> None:
    """Have a parser know those of Hydra's own options that say where a configuration comes from, and `--version`."""
    add_config_dir(parser)
    parser.add_argument(
        "-cn", "--config-name", default=OUR_CONFIG, metavar="NAME", help="primary configuration: ours, or DIR/NAME.yaml"
    )
    parser.add_argument(
        "--version", action="version", version=f"sla-ablate {__version__}, Hydra {version('hydra-core')}"
    )


def number(bounds: Bounds) -> Callable[[str], float]:
    """The type of an option that takes a number between bounds, for `add_argument`."""

    def convert(text: str) -> float:
        try:
            value = bounds.kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text[:100]!r} is no {_KINDS[bounds.kind]}; choose {bounds}") from None
        try:
            bounds.check(text, value)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return value

    return convert


def _path(text: str) -> Path:
    return absolute(text) if text.startswith("~") else Path(text)


def add_data_path(parser: Parser) -> None:
    """Have a parser take `data.path=PATH`, where the corpus lies now, as `data_path` of its options."""
    parser.add_argument(
        "data_path", nargs="?", type=_data_path, metavar="data.path=PATH", help="where the runs' corpus lies now"
    )


def _data_path(text: str) -> str:
    name, _, path = text.partition("=")
    if name != "data.path" or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is unknown here; allowed: data.path=PATH")
    return path


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


def check_no_run(name: str, given: str | Path) -> None:
    """Raise an InputError where what is given is the folder of a run: a pattern of the shell that matched two."""
    if os.path.exists(os.path.join(given, "record.json")):  # noqa: PTH110, PTH118 (any text may be a prompt)
        raise InputError(f"{name} {str(given)!r} is the folder of a run; did a pattern of the shell match several?")


def add_selection(parser: Parser) -> None:
    """Have a parser know what chooses the runs that tables and figures show."""
    parser.add_argument(
        "--patterns",
        action="append",
        default=[],
        metavar="A,B",
        help="patterns to show, in this order, by label, name or the beginning of run ids; the baseline, to which all "
        "differences are, stays",
    )
    add_where(parser)


def add_where(parser: Parser) -> None:
    """Have a parser know what a key of the chosen runs' configuration has to be."""
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only runs that have this value, such as optim.lr=0.001; may be given again",
    )


def _folder(text: str) -> Path:
    if not (path := absolute(text)).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no folder")
    return path


def reject_flags(arguments: Sequence[str], allowed: str) -> None:
    """Raise an InputError that names the first option among the arguments, none of which a command knows."""
    for argument in arguments:
        if argument.startswith("-"):
            raise InputError(f"option {argument!r} is unknown; allowed: {allowed}")
