"""All items at a glance: their questions, what is measured of them, and what it says."""

from __future__ import annotations

import textwrap
from pathlib import Path

from analysis.items.page import index, page
from analysis.items.table import item_tables
from analysis.items.words import answer, headline
from sla_ablate.files import check_free, write_atomically
from sla_ablate.items.store import Results, all_items
from sla_ablate.text import escape

_WIDTH = 80


def listing(results: Results) -> str:
    """A paragraph an item: its name and question, then a line for each scale that it was measured at."""
    blocks = []
    for name, item in all_items().items():
        lines = [_wrapped(f"{name}: {item.question}", "", "  ")]
        for scale in results.scales(name):
            tables = item_tables(item, scale, results.lines(name, scale))
            for table in tables:
                told = f"{scale}: {len(table.lines)} run(s); {escape.line(headline(table))}"
                lines.append(_wrapped(told, "  ", "    "))
        if len(lines) == 1:
            lines.append(_wrapped(f"not measured; scales: {', '.join(item.scales)}", "  ", "    "))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def write_site(results: Results, out: Path, force: bool = False) -> list[Path]:
    """Write the page of every item and scale that has results, and `index.html`; returns their paths.

    Raises:
        InputError: `out` holds something else, and there is no `force`.
    """
    ours = [f"{name}-{scale}.html" for name in all_items() for scale in results.scales(name)]
    check_free(out, lambda name: name in ("index.html", *ours), force)
    written, entries, baselines = [], [], results.all_lines()
    for name, item in all_items().items():
        scales = []
        for scale in results.scales(name):
            tables = item_tables(item, scale, results.lines(name, scale), baselines)
            if not tables:
                continue
            path = out / f"{name}-{scale}.html"
            write_atomically(path, page(tables, home="index.html").encode())
            scales.append((path.name, scale, answer(tables[0])))
            written.append(path)
        entries.append((name, item.question, scales))
    write_atomically(out / "index.html", index(entries).encode())
    return [*written, out / "index.html"]


def _wrapped(text: str, first: str, others: str) -> str:
    return textwrap.fill(
        text, _WIDTH, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )
