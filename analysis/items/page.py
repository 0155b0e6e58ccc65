"""The page of an item: one self-contained HTML file with the question, the answer, and all that stands behind it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from analysis.comparison import BASELINE
from analysis.figures.item import classes_figure, curves_figure, item_figure
from analysis.figures.style import render
from analysis.items.columns import Column, columns
from analysis.items.table import ItemTable
from analysis.items.words import caption, headline, published
from sla_ablate.errors import InputError
from sla_ablate.items.lines import processor_of
from sla_ablate.patterns import SkipPattern, diagram
from sla_ablate.text.escape import html as escape

_HERE = Path(__file__).parent
_NUMBER = re.compile(r"[+-]?\d[\d,]*\.?\d*")


def page(tables: Sequence[ItemTable]) -> str:
    """The page of an item at a scale, from its tables, the one with the most runs first."""
    first = tables[0]
    item = first.item
    body = [
        f'<header><h1>{escape(item.name)} at {escape(first.scale)}</h1><p class="question">{escape(item.question)}</p>'
        f'<p class="answer">{escape(_sentence(headline(first)))}</p></header><main>',
        _section("The figure", _figures([("The question at a glance", item_figure, first)])),
        _section("Measured beside published", "".join(map(_table, tables)) + _published(first)),
        _section("The patterns", _patterns(first)),
        _section("Where the difference is", _figures([("Δ by class of token", classes_figure, first)])),
        _section("Training", _figures([("Training loss over steps, a line a run", curves_figure, first)])),
        _section("Runs", _runs(first)),
        _section("The same again", _again(first)),
        "</main>",
    ]
    return _document(f"{item.name} at {first.scale}", "\n".join(part for part in body if part))


def index(entries: Iterable[tuple[str, str, str, str]]) -> str:
    """The page that leads to all others; each entry is a link, a title, the question and the answer."""
    items = "".join(
        f'<section><h2><a href="{escape(link)}">{escape(title)}</a></h2><p>{escape(question)}</p>'
        f'<p class="note">{escape(_sentence(answer))}</p></section>'
        for link, title, question, answer in entries
    )
    body = '<header><h1>sla-ablate</h1><p class="question">What skip-layer attention does, measured</p></header>'
    return _document("sla-ablate: all items", f"{body}<main>{items}</main>")


def _document(title: str, body: str) -> str:
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><style>{style}</style></head>\n'
        f"<body>{body}<script>{script}</script></body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _table(table: ItemTable) -> str:
    found = columns(table)
    heads = "".join(f'<th scope="col"><button type="button">{escape(column.title)}</button></th>' for column in found)
    rows = []
    for n, pattern in enumerate(table.rows["pattern"]):
        cells = "".join(_cell(column, n) for column in found)
        rows.append(f'<tr class="baseline">{cells}</tr>' if pattern == BASELINE else f"<tr>{cells}</tr>")
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="Table of results"><table class="sortable">'
        f"<caption>{escape(caption(table))}</caption><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(column: Column, n: int) -> str:
    text = column.cells[n]
    number = _NUMBER.match(text) if column.is_number else None
    value = number[0].replace(",", "") if number else text
    shown = f"<strong>{escape(text)}</strong>" if column.best and column.best[n] else escape(text)
    return f'<td data-value="{escape(value)}">{shown}</td>'


def _published(table: ItemTable) -> str:
    values = published(table.item.published)
    if not values:
        return '<p class="note">No value of this was published that is known here.</p>'
    return f"<h3>Published</h3><ul>{''.join(f'<li>{escape(value)}</li>' for value in values)}</ul>"


def _figures(drawings: Iterable[tuple[str, object, ItemTable]]) -> str:
    parts = []
    for title, draw, table in drawings:
        try:
            figure = draw(table)  # type: ignore[operator]
        except InputError:  # nothing of it was measured yet
            continue
        parts.append(
            f"<figure>{_image(figure, title)}<figcaption>{escape(title)}. {escape(_about(draw))}</figcaption></figure>"
        )
    return "".join(parts)


def _about(draw: object) -> str:
    """What a figure's marks are: its docstring but for the first line."""
    return " ".join((draw.__doc__ or "").partition("\n\n")[2].partition("\n\n")[0].split())


def _image(figure: Figure, title: str) -> str:
    data = base64.b64encode(render(figure, "svg")).decode()
    return f'<img alt="{escape(title)}" src="data:image/svg+xml;base64,{data}">'


def _patterns(table: ItemTable) -> str:
    drawn = {}
    for record in table.records:
        pattern = record["pattern"]
        drawn.setdefault(pattern["label"], SkipPattern.from_tables(pattern["key_source"], pattern["value_source"]))
    cells = []
    for label, pattern in drawn.items():
        data = base64.b64encode(diagram.svg(pattern, label).encode()).decode()
        cells.append(
            f'<figure><img alt="Diagram of {escape(label)}" src="data:image/svg+xml;base64,{data}">'
            f"<figcaption>{escape(label)}</figcaption></figure>"
        )
    return f'<div class="patterns">{"".join(cells)}</div>'


def _runs(table: ItemTable) -> str:
    first = table.lines[0]["environment"]
    seeds = sorted({line["seed"] for line in table.lines})
    facts = {
        "Runs": str(len(table.lines)),
        "Seeds": ", ".join(map(str, seeds)),
        "Processors": ", ".join(sorted({processor_of(line) for line in table.lines})),
        "Precision": table.precision,
        "Versions": ", ".join(f"{name} {version}" for name, version in first["versions"].items()),
        "Commits": ", ".join(sorted({_commit(line["environment"]) for line in table.lines})),
        "Computing": f"{sum(line['cost']['seconds'] for line in table.done) / 3600:.1f} hours of training",
    }
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items()) + "</dl>"


def _commit(environment: Mapping[str, Any]) -> str:
    changes = environment.get("git_changes")
    return f"{str(environment.get('git_commit'))[:12]}{f' with changes {changes}' if changes else ''}"


def _again(table: ItemTable) -> str:
    command = f"sla-ablate reproduce {table.item.name} --scale {table.scale}"
    return f"<pre>{escape(command)}\n{escape(command)} --verify 2</pre>"
