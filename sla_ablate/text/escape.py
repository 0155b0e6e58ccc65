"""Text of others, such as a label or an error in somebody's run folder, for the medium that shows it.

Whatever it holds, it stands there as text: no markup, no formula, no command to a terminal. Only what is shown passes
through here; data keep the text as it is.
"""

from __future__ import annotations

import html as _html
import re
import unicodedata

# Control characters but for the tab, line separators, direction marks and lone surrogates.
_HIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Brackets that a link follows, what begins a tag or an entity, underscores but in words, and what always counts.
_MARKDOWN = re.compile(r"[\\`*|~$]|\](?=[(\[:])|<(?=[A-Za-z/!?])|&(?=[#A-Za-z])|(?<![^\W_])_|_(?![^\W_])")
_LATEX_GREEK = dict(
    zip(
        "αβγδεζηθικλμνξπρσςτυφχψωΓΔΘΛΞΠΣΥΦΨΩ",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma varsigma tau upsilon "
        "phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega".split(),
        strict=True,
    )
)
_LATEX_COMMANDS = {
    **{"±": "pm", "×": "times", "·": "cdot", "∞": "infty", "↓": "downarrow", "↑": "uparrow", "→": "to", "†": "dagger"},
    **{"≤": "le", "≥": "ge", "≈": "approx", **_LATEX_GREEK},
}
_LATEX_WORDS = {
    **{"\\": "textbackslash", "~": "textasciitilde", "^": "textasciicircum", "`": "textasciigrave"},
    **{"–": "textendash", "—": "textemdash", "…": "dots"},
}
_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{c: f"${c}$" for c in "<>|"},
    "−": "$-$",
    **{c: f"$\\{name}$" for c, name in _LATEX_COMMANDS.items()},
    **{c: f"\\{name}{{}}" for c, name in _LATEX_WORDS.items()},
}
_LATEX_LETTERS = "ßæÆœŒøØłŁ©®"
"""Characters that LaTeX's basic fonts have beside ASCII and its letters with accents."""
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
    """Text as LaTeX sets it; a character that its basic fonts lack becomes a question mark."""
    return re.sub("-(?=-)", "-{}", "".join(map(_latex, line(text))))  # two hyphens are no dash


def csv(text: object) -> str:
    """A cell that a spreadsheet takes for text: with an apostrophe before what it would take for a formula."""
    shown = line(text)
    return f"'{shown}" if _FORMULA.match(shown) else shown


def figure(text: object) -> str:
    """Words in a figure of Matplotlib's, to which what stands between dollar signs is a formula."""
    return line(text).replace("$", r"\$")


def _latex(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    parts = unicodedata.normalize("NFKD", character)
    is_accented = parts[0].isascii() and character < "\u0180"
    if character.isascii() or character in _LATEX_LETTERS or is_accented:
        return character
    return parts if parts.isascii() else "?"
