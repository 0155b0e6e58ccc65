"""The figures of a sweep, for a paper's column or page; one file each, named in `analysis/figure_names.py`.

A figure is a function of `SweepData`; the first line of its docstring is the question that it answers. `style.py` is
how they all look.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import wraps
from importlib import import_module
from pathlib import Path

from matplotlib.figure import Figure

from analysis.figure_names import FIGURES as NAMES
from analysis.figure_names import OF_RUNS
from analysis.figures.captions import caption, question
from analysis.figures.differences import paired_differences
from analysis.figures.style import FORMATS, render, styled
from analysis.selection import EVERYTHING, Selection
from analysis.sweep_data import SweepData, open_settings
from sla_ablate.errors import DOTTED, InputError, named, unknown
from sla_ablate.files import alone_in, check_free, inside, replace_file
from sla_ablate.runs.swept import file_names

__all__ = [
    "FIGURES",
    "OF_RUNS",
    "SweepData",
    "figure_named",
    "open_settings",
    "paired_differences",
    "render",
    "write_figures",
]

FIGURES: dict[str, Callable[[SweepData], Figure]] = {
    name: getattr(import_module(f"analysis.figures.{name}"), name) for name in NAMES
}
TABLES = ("table", "runs", "diversity")
"""What a report has beside figures, without suffixes."""


def check_out(out: Path, force: bool, own: Collection[str] = ()) -> None:
    """Make sure that a folder that the user named holds nothing but figures and the tables of reports.

    Args:
        out: the folder; it need not exist.
        force: it may hold anything.
        own: names of figures of the user's own that may be there too.

    Raises:
        InputError: it holds something else.
    """
    check_free(out, lambda name: re.split("[-.]", name)[0] in (*FIGURES, *TABLES, *own), force)


def write_figures(
    names: str | Sequence[str],
    sweep: str | Path,
    out: str | Path | None = None,
    run: str | None = None,
    force: bool = False,
    selection: Selection = EVERYTHING,
) -> Iterator[Path]:
    """Draw figures of a sweep, or `all`, into `out` (default `<sweep>/figures`); yields each file once it is there.

    Files are `<name>.svg`, `.pdf` and `.png`, and `.txt` with the caption; with several settings
    `<name>-<what tells it from the others>.*`, such as `jsd-lr0.001.*`.
    The names of those that show a selection end with it.

    Args:
        names: one or several of `FIGURES`, or `all`, with a run all of `OF_RUNS`; or those of functions of the user's
            own, in the form of `errors.DOTTED`.
        sweep: its folder.
        out: where to.
        run: the id or folder of the one run that figures of `OF_RUNS` show.
        force: write to `out` even if it holds something else than figures and tables.
        selection: what is shown.

    Raises:
        InputError: one of these is unknown, `out` holds something else, or the sweep lacks what a figure is drawn from;
            the others of `all` are drawn before.
    """
    asked = [names] if isinstance(names, str) else names
    figures = {each: draw for name in asked for each, draw in _chosen(name, run).items()}
    settings = open_settings(sweep, run, selection)
    if out is None:
        out = inside(Path(sweep), "figures")
    else:
        check_out(out := Path(out), force, figures)
    out.mkdir(parents=True, exist_ok=True)
    lacking: list[str] = []
    called = file_names([record for data in settings.values() for record in data.records])
    for setting, data in settings.items():
        for each, draw in figures.items():
            try:
                figure = draw(data)
            except InputError as error:
                lacking.append(str(error))
                continue
            file = (each if len(settings) == 1 else f"{each}-{called[setting]}") + selection.suffix
            told = caption(draw, data)
            files = {f".{suffix}": render(figure, suffix, question(draw), told.strip()) for suffix in FORMATS}
            with alone_in(out):
                for suffix, content in {**files, ".txt": told.encode()}.items():
                    replace_file(out / f"{file}{suffix}", content)
            yield from (out / f"{file}{suffix}" for suffix in (*files, ".txt"))
        if "heads" in vars(data) and data.unmeasured:
            runs = ", ".join(data.unmeasured)
            lacking.append(f"not analyzed, so in no figure of heads: {runs}; run: sla-ablate analyze {sweep}")
        lacking += data.faults
    if lacking:
        raise InputError("\n".join(dict.fromkeys(lacking)))


def figure_named(name: str, run: str | None = None) -> Callable[[SweepData], Figure]:
    """The function that draws a figure.

    Args:
        name: of `FIGURES`, or in the form of `errors.DOTTED` that of a function of the user's own.
        run: the one run that it is to show.

    Raises:
        InputError: there is none, or it shows all runs.
    """
    if ":" in name:
        return _own(name)
    if name not in FIGURES:
        raise unknown("figure", name, (*FIGURES, DOTTED))
    if run is not None and name not in OF_RUNS:
        raise InputError(f"figure {name} shows all runs; a run can be chosen for {', '.join(OF_RUNS)}")
    return FIGURES[name]


def _chosen(name: str, run: str | None) -> Mapping[str, Callable[[SweepData], Figure]]:
    if name != "all":
        return {name.rpartition(":")[2]: figure_named(name, run)}
    return FIGURES if run is None else {each: FIGURES[each] for each in OF_RUNS}


def _own(name: str) -> Callable[[SweepData], Figure]:
    """A figure of the user's own, in the style of all."""
    function = named("figure", name)
    if not callable(function):
        raise InputError(f"figure {name!r} is no function; write one of SweepData")

    @styled
    @wraps(function)
    def draw(data: SweepData) -> Figure:
        figure = function(data)
        if not isinstance(figure, Figure):
            raise InputError(f"figure {name!r} gave no matplotlib Figure but a {type(figure).__name__}")
        return figure

    return draw
