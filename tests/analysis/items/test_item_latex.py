"""Tables in LaTeX compile as they are, whatever a label holds."""

import re
import shutil
import subprocess

import pytest

from analysis.items import latex

needs_latex = pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="no pdflatex (apt-get install texlive-latex-base)"
)


def compiled(text, folder):
    """The log of a document that pdflatex has compiled."""
    (folder / "table.tex").write_text(text, encoding="utf-8")
    result = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "table.tex"],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    log = result.stdout.decode(errors="replace")
    assert result.returncode == 0, log[-2000:]
    return log


@needs_latex
def test_tables_compile(tables, odd_table, tmp_path):
    text = latex.render([odd_table, tables("distance_by_heads"), tables("first_layer_values")])
    log = compiled(text, tmp_path)
    assert not re.search(r"Float too large|Overfull|Missing character", log)


def test_a_row_has_as_many_cells_as_there_are_columns(tables):
    text = latex.render([tables("relatives")])
    (columns,) = re.findall(r"\\begin\{tabular\}\{([rl]+)\}", text)
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len(rows) == 1 + len(tables("relatives").rows)
    assert {line.count(" & ") for line in rows} == {len(columns) - 1}
