"""Text of others, such as a label or an error in somebody's run folder, for the medium that shows it.

Whatever it holds, it stands there as text: no markup, no formula, no command to a terminal. Only what is shown passes
through here; data keep the text as it is.
"""

from __future__ import annotations

import html as _html
import re

# Control characters but for the tab, line separators, direction marks and lone surrogates.
_HIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Brackets that a link follows, what begins a tag or an entity, underscores but in words, and what always counts.
_MARKDOWN = re.compile(r"[\\`*|~$]|\](?=[(\[:])|<(?=[A-Za-z/!?])|&(?=[#A-Za-z])|(?<![^\W_])_|_(?![^\W_])")
_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "Δ": r"$\Delta$",
    "×": r"$\times$",
    "−": r"$-$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "<": r"$<$",
    ">": r"$>$",
}
_FORMULA = re.compile(r"[=+\-@\t]")


def line(text: object) -> str:
    r"""One line for a terminal: what is not to be seen stands as it does in Python, such as `\x1b`."""
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), str(text))


def lines(text: str) -> str:
    """Running text for a terminal, with its own line ends."""
    return "\n".join(map(line, text.split("\n")))


def markdown(text: object) -> str:
    """A piece of a line, or a cell of a table, in GitHub's Markdown."""
    return _MARKDOWN.sub(r"\\\g<0>", line(text))


def markdown_code(text: object) -> str:
    """A span of code in Markdown, between more backticks than follow one another in it."""
    shown = line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}" if "`" in shown else f"{fence}{shown}{fence}"


def html(text: object) -> str:
    """Text between tags, or in a quoted attribute, of HTML and SVG."""
    return _html.escape(line(text))


def latex(text: object) -> str:
    """Text as LaTeX sets it; what is not in Latin 1 and not known here becomes a question mark."""
    return "".join(_LATEX.get(c, c if ord(c) < 256 else "?") for c in line(text))


def csv(text: object) -> str:
    """A cell that a spreadsheet takes for text: with an apostrophe before what it would take for a formula."""
    shown = line(text)
    return f"'{shown}" if _FORMULA.match(shown) else shown


def figure(text: object) -> str:
    """Words in a figure of Matplotlib's, to which what stands between dollar signs is a formula."""
    return line(text).replace("$", r"\$")
