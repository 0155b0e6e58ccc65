"""Foreign text against the readers of each medium: what they show is the text, and nothing else."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ElementTree

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.cbook import is_math_text

from sla_ablate.text import escape

NASTY = [
    "a|b", "<script>alert(1)</script>", "![x](http://tracker/)", "[x](javascript:alert)", "`code`", "&lt;b&gt;",
    "**bold** _it_ ~~s~~", "a_b my_file.jsonl", "\\| \\", "$x$ and $\\frac{$", "\x1b]0;title\x07\x1b[31m", "a\nb\r\nc",
    "\u202eevil", "\x9b31m", "\udc80", "=cmd|'/c calc'!A1", "+1", "-1", "@SUM(A1)", "\t=1", "日本 🙂",
    "SLA, distance 1, 3 of 4 heads",
]  # fmt: skip
TEXTS = st.one_of(st.sampled_from(NASTY), st.text(max_size=20))


def is_seen(character: str) -> bool:
    """Whether a terminal shows a character and does not obey it; the tab apart."""
    return character == "\t" or not (ord(character) < 32 or 127 <= ord(character) < 160 or character in "\u202e\udc80")


@given(TEXTS)
def test_a_terminal_is_not_obeyed(text):
    shown = escape.line(text)
    assert all(map(is_seen, shown))
    assert shown == text if all(map(is_seen, text)) and text.isprintable() else len(shown) >= len(text)
    assert escape.lines(f"a\n{text}").split("\n") == ["a", *map(escape.line, text.split("\n"))]


@given(TEXTS)
def test_a_spreadsheet_gets_no_formula(text):
    file = io.StringIO(pd.DataFrame({"x": [escape.csv(text)], "y": [1]}).to_csv(index=False))
    (_, (cell, one)) = csv.reader(file)
    assert one == "1"
    assert cell in (escape.line(text), f"'{escape.line(text)}")
    assert not cell.startswith(("=", "+", "-", "@", "\t"))


@given(TEXTS)
def test_html_shows_the_text(text):
    element = ElementTree.fromstring(f'<a title="{escape.html(text)}">{escape.html(text)}</a>')
    assert (element.text or "") == escape.line(text)
    assert len(element) == 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b & 5 % of $x$ #1 {y}", r"a\_b \& 5 \% of \$x\$ \#1 \{y\}"),
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("~^", r"\textasciitilde{}\textasciicircum{}"),
        ("a\nb\x1b", r"a\textbackslash{}nb\textbackslash{}x1b"),
        ("Δ ±1 日", r"$\Delta$ $\pm$1 ?"),
        ("β − – · <|>", r"$\beta$ $-$ \textendash{} $\cdot$ $<$$|$$>$"),
        ("é č ﬁ ß ☃ ÷ --x", "é č fi ß ? ? -{}-x"),
    ],
)
def test_latex_sets_the_text(text, shown):
    assert escape.latex(text) == shown


@given(TEXTS)
def test_a_figure_has_no_formula(text):
    assert not is_math_text(escape.figure(text))


@pytest.mark.parametrize("text", NASTY)
def test_markdown_shows_the_text(text):
    """As markdown-it reads a table of GitHub's: one cell with the text in it, no element inside."""
    markdown_it = pytest.importorskip("markdown_it")
    reader = markdown_it.MarkdownIt().enable(["table", "strikethrough"])
    (cell,), (code,) = (
        [token for token in reader.parse(f"| h | i |\n|---|---|\n| {shown} | 1 |\n") if token.type == "inline"][2:3]
        for shown in (escape.markdown(text), escape.markdown_code(text.replace("|", "")))
    )
    assert {child.type for child in cell.children} <= {"text", "text_special"}
    assert "".join(child.content for child in cell.children) == escape.line(text).strip()
    assert [child.type for child in code.children] == ["code_inline"]
    assert code.children[0].content.strip() == escape.line(text.replace("|", "")).strip()
