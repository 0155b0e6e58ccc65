"""Files are UTF-8 whatever the locale; what a terminal cannot show is replaced there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [*ROOT.glob("sla_ablate/**/*.py"), *ROOT.glob("analysis/**/*.py")]
BINARY_BY_DEFAULT = {"gzip", "lzma", "os", "tarfile", "TokenShards"}
"""Whose `open` is none of a text file, unless it is told so."""


def names_no_encoding(call: ast.Call) -> bool:
    """Tell whether a call reads or writes text in the encoding of the locale."""
    keywords = {keyword.arg for keyword in call.keywords}
    if "encoding" in keywords:
        return False
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name in ("open", "fdopen"):
        owner = getattr(getattr(call.func, "value", None), "id", "")
        given = [node.value for a in call.args for node in ast.walk(a) if isinstance(node, ast.Constant)]
        return owner not in BINARY_BY_DEFAULT and not any("b" in str(mode) for mode in given)
    asks_for_text = {keyword.arg for keyword in call.keywords if getattr(keyword.value, "value", None) is True}
    return name in ("read_text", "write_text") or bool({"text", "universal_newlines"} & asks_for_text)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("path.read_text()", True),
        ("path.write_text(x)", True),
        ("open(path)", True),
        ("path.open('a')", True),
        ("subprocess.run(command, text=True)", True),
        ("path.read_text('utf-8', encoding='utf-8')", False),
        ("path.open('ab')", False),
        ("replace(part, text=note.text)", False),
        ("lzma.open(path)", False),
    ],
)
def test_the_check_knows_what_it_looks_for(code, expected):
    assert names_no_encoding(ast.parse(code, mode="eval").body) == expected


def test_every_text_file_is_opened_with_its_encoding():
    offending = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and names_no_encoding(node)
    ]
    assert not offending
