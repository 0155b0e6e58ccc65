"""What all figures have in common: sizes, fonts, and one look for each pattern and each role."""

from __future__ import annotations

import html
import io
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Literal, NamedTuple, TypeVar, cast

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.comparison import BASELINE
from sla_ablate.errors import InputError
from sla_ablate.text import escape

COLUMN, PAGE = 3.4, 7.0
"""Inches: one column of a two-column paper and both, so that 8 points stay 8 points in print."""
HEATMAP = "Blues"
"""A colour map of one hue, darker for more: the same order in colour, to colour-blind eyes and in grey."""
ORDER = "viridis"
"""A colour map for points that are told apart by an ordered number; as readable as `HEATMAP`, on white too."""
FORMATS = ("svg", "pdf", "png")

if os.environ.get("MATPLOTLIBRC") == os.devnull:
    # In a command no file of settings counts (processes/environment.py), not even one in the working folder, which
    # Matplotlib lets precede. A figure that is drawn from Python keeps what the user has set beside `_RC`.
    mpl.rcdefaults()

_RC: dict[Any, Any] = {
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "figure.labelsize": 8,
    "figure.titlesize": 8,
    "font.sans-serif": ["Arial", "Helvetica", "DejaVu Sans", "sans-serif"],
    "font.size": 8,
    "hatch.linewidth": 0.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handletextpad": 0.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,  # TrueType, which publishers ask for
    "savefig.dpi": 300,
    "svg.fonttype": "none",  # text stays text, to be searched, edited and read aloud
    "svg.hashsalt": "sla-ablate",  # otherwise the ids in the file are random
    "xtick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.labelsize": 7,
    "ytick.major.width": 0.6,
}
Layout = Literal["constrained", "compressed"]
_Drawing = TypeVar("_Drawing", bound=Callable[..., Figure])
_PLACE: ContextVar[Axes | None] = ContextVar("_PLACE", default=None)
"""The user's axes whose place the next figure takes."""


class Look(NamedTuple):
    """How one thing looks in every figure; any of the four tells it from the others."""

    colour: str
    marker: str
    line: Any = "-"
    """The line style as Matplotlib takes it."""
    hatch: str = ""


# Okabe and Ito's palette, distinct under every common colour blindness; markers and lines are for print in grey.
OWN, SKIP = Look("#C4C4C4", "o"), Look("#0072B2", "^", hatch="////")
ROLES = {"own": OWN, "skip": SKIP}
_BASELINE = Look("#000000", "o")
_OTHERS = (
    Look("#D55E00", "s", (0, (5, 1.5))),
    Look("#009E73", "^", (0, (5, 1, 1, 1))),
    Look("#CC79A7", "D", (0, (1, 1))),
)
_MORE = (
    Look("#E69F00", "v", (0, (5, 1, 1, 1, 1, 1))),
    Look("#56B4E9", "P", (0, (3, 1))),
    Look("#0072B2", "X", (0, (7, 3))),
    Look("#999999", "*", (0, (2, 3))),
)
_REST = Look("#777777", "v")
SHOWN = 1 + len(_OTHERS)
"""Patterns, the baseline among them, that a figure has room for, side by side or in one pair of axes."""


def styled(draw: _Drawing) -> _Drawing:
    """A function that draws, with this style but for what the user has set."""

    @wraps(draw)
    def drawn(*arguments: Any, **options: Any) -> Figure:
        untouched = {name: value for name, value in _RC.items() if mpl.rcParams[name] == mpl.rcParamsDefault[name]}
        with mpl.rc_context(untouched):
            return draw(*arguments, **options)

    return cast("_Drawing", drawn)


def canvas(width: float, height: float, layout: Layout = "constrained") -> Figure:
    """A new figure of so many inches; within `drawing_on`, the place of the user's axes instead."""
    place = _PLACE.get()
    if place is None:
        return Figure(figsize=(width, height), layout=layout)
    spec, figure = place.get_subplotspec(), place.get_figure(root=False)
    if spec is None or figure is None:
        raise InputError("ax is no subplot; take one of plt.subplots() or figure.add_subplot()")
    place.remove()
    return cast("Figure", figure.add_subfigure(spec))  # all that is drawn with is common to both


@contextmanager
def drawing_on(axes: Axes | None) -> Iterator[None]:
    """Have the figures drawn in the block take the place of axes of the user's; None: figures of their own."""
    token = _PLACE.set(axes)
    try:
        yield
    finally:
        _PLACE.reset(token)


def looks(ranked: Iterable[str], chosen: bool = False) -> dict[str, Look]:
    """The look of each pattern: the baseline's own, those of the next by label, the same one for all the rest.

    Args:
        ranked: the patterns, those first that are to be told apart.
        chosen: True if the user chose them and their order: then as many as can be told apart have their own.
    """
    others = [pattern for pattern in ranked if pattern != BASELINE]
    if chosen:
        return {BASELINE: _BASELINE, **dict.fromkeys(others, _REST), **dict(zip(others, _OTHERS + _MORE, strict=False))}
    best = sorted(others[: len(_OTHERS)], key=natural)
    return {BASELINE: _BASELINE, **dict(zip(best, _OTHERS, strict=False)), **dict.fromkeys(others[len(best) :], _REST)}


def wrap(label: str, width: int = 20) -> str:
    """The label over lines of about so many letters, broken after commas only: "distance 5" stays whole."""
    whole = escape.figure(label).replace(" ", "\N{NO-BREAK SPACE}").replace(",\N{NO-BREAK SPACE}", ", ")
    return textwrap.fill(whole, width, break_long_words=False)


def layer_axis(axes: Axes) -> None:
    """Name the x axis, with whole numbers on it."""
    axes.set_xlabel("layer")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))


@styled
def _saved(figure: Figure, buffer: io.BytesIO, suffix: str, title: str, description: str) -> Figure:
    metadata: dict[str, dict[str, str | None]] = {
        "svg": {"Date": None, "Title": title},
        "pdf": {"CreationDate": None, "Title": title, "Subject": description},
        "png": {"Title": title, "Description": description},
    }
    given = {name: value for name, value in metadata[suffix].items() if value != ""}
    if figure.get_layout_engine() is not None:  # once, not for each format
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    figure.savefig(buffer, format=suffix, metadata=given)
    return figure


def render(figure: Figure, suffix: str, title: str = "", description: str = "") -> bytes:
    """The figure as a file of a type of `FORMATS`; equal figures give equal bytes.

    Args:
        figure: what is drawn.
        suffix: of `FORMATS`.
        title: what the figure shows, for those who find or hear the file.
        description: what its marks are and what they are of.
    """
    _saved(figure, buffer := io.BytesIO(), suffix, title, description)
    data = buffer.getvalue()
    if suffix == "svg" and description:
        end = b"</title>"
        data = data.replace(end, end + f"\n <desc>{html.escape(description, quote=False)}</desc>".encode(), 1)
    return data


def natural(label: str) -> list[tuple[int, str]]:
    """Sorts "distance 9" before "distance 10"."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", label)]
