"""The page of an item: one self-contained HTML file with the question, the answer, and all that stands behind it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from analysis.comparison import BASELINE
from analysis.figures.captions import marks
from analysis.figures.items import KINDS, baseline_curve, classes, curves, item_figure
from analysis.figures.style import render
from analysis.items import html
from analysis.items.classes import class_table, class_words, extremes
from analysis.items.columns import Column, columns, delta_text
from analysis.items.html import text
from analysis.items.table import ItemTable, verdict
from analysis.items.words import TRUST, answer, corpus, curves_told, notes, spoken, spoken_curves
from sla_ablate.errors import InputError
from sla_ablate.patterns import SkipPattern, diagram
from sla_ablate.text.words import duration

_NUMBER = re.compile(r"[+-]?\d[\d,]*\.?\d*(e[+-]?\d+)?")
_PIXELS_PER_INCH = 128
_COLOURS = "Differences in colour are resolved after Holm's adjustment: blue lower, orange higher."


def page(tables: Sequence[ItemTable], home: str | None = None) -> str:
    """The page of an item at a scale.

    Args:
        tables: its tables, the one with the most runs first.
        home: a link to the page of all items, if there is one.
    """
    first = tables[0]
    back = f'<a href="{text(home)}">All items</a> · ' if home else ""
    header = (
        f'<header><p class="eyebrow">{back}{text(first.item.name)} at {text(first.scale)}</p>'
        f"<h1>{text(first.item.question)}</h1>"
        f'<p class="answer">{text(answer(first))}</p></header>'
    )
    contents = html.sections(
        {
            "The answer in a figure": _figure(item_figure, KINDS[first.item.figure["kind"]], first, spoken(first)),
            "Measured": "".join(_results(n, table) for n, table in enumerate(tables)),
            "Published": _published(first),
            "The patterns": _patterns(first),
            "Where the difference is": _where(first),
            "What it is worth": _figure(baseline_curve, baseline_curve, first, " ".join(curves_told(first))),
            "Training": _figure(curves, curves, first, spoken_curves(first)),
            "Runs": _runs(tables),
            "The same again": _again(first),
        }
    )
    return html.document(f"{first.item.name} at {first.scale}", header + contents)


def index(items: Iterable[tuple[str, str, Sequence[tuple[str, str, str]]]]) -> str:
    """The page that leads to all others.

    Args:
        items: of each its name, its question, and for every scale that it was measured at a link, the scale and the
            answer.
    """
    measured, open_ = [], []
    for name, question, scales in items:
        if not scales:
            open_.append(f"<li>{text(question)} <span class=eyebrow>{text(name)}</span></li>")
            continue
        links = "".join(
            f'<dt><a href="{text(link)}">{text(scale)}<span class="spoken">, {text(name)}</span></a></dt>'
            f"<dd>{text(told)}</dd>"
            for link, scale, told in scales
        )
        head = f'<p class="eyebrow">{text(name)}</p><h2>{text(question)}</h2>'
        measured.append(f'<article class="item">{head}<dl>{links}</dl></article>')
    rest = f'<section><h2>Not measured yet</h2><ul class="open">{"".join(open_)}</ul></section>' if open_ else ""
    header = (
        '<header><p class="eyebrow">sla-ablate</p><h1>What does skip-layer attention do?</h1>'
        f"<p>{len(measured)} of {len(measured) + len(open_)} questions have measured answers, each with its table, its "
        "figures and the commands that lead to it.</p></header>"
    )
    return html.document("sla-ablate: all items", f"{header}<main>{''.join(measured)}{rest}</main>")


def _figure(
    draw: Callable[[ItemTable], Figure], documented: Callable[[ItemTable], Figure], table: ItemTable, words: str
) -> str:
    """A figure with its caption, the second paragraph of what documents it; nothing where nothing was measured."""
    try:
        figure = draw(table)
    except InputError:
        return ""
    about = marks(documented)
    width = round(figure.get_figwidth() * _PIXELS_PER_INCH)
    return html.figure(html.scrolling(html.picture(render(figure, "svg"), words, width), "Figure"), about)


def _results(number: int, table: ItemTable) -> str:
    found = columns(table)
    heads = "".join(
        f'<th scope="col"{"" if column.is_number else " class=text"}><button type="button">{text(column.title)}'
        "</button></th>"
        for column in found
    )
    anchors = _anchors(table) if number == 0 else {}
    body = []
    for n, (_, row) in enumerate(table.rows.iterrows()):
        name = text(row["pattern"])
        link = f'<a href="#{anchors[row["pattern"]]}">{name}</a>' if row["pattern"] in anchors else name
        cells = "".join(_cell(column, n, verdict(row)) for column in found[1:])
        kind = ' class="baseline"' if row["pattern"] == BASELINE else ""
        body.append(f'<tr{kind}><th scope="row" data-value="{name}">{link}</th>{cells}</tr>')
    title = f"{len(table.lines)} runs at {table.scale}, trained in {table.precision}"
    about = f"table-{number}-notes"
    told = "".join(f"<li>{text(note)}</li>" for note in [*notes(table), _COLOURS])
    return (
        html.scrolling(
            f'<table class="sortable" aria-describedby="{about}"><caption>{text(title)}</caption>'
            f"<thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>",
            f"Table of results, {title}",
        )
        + f'<ul class="note" id="{about}">{told}</ul>'
    )


def _cell(column: Column, n: int, judged: str) -> str:
    """A cell with the value to sort by; what follows a number, its spread or interval, stands below it."""
    whole = column.cells[n]
    if not column.is_number:
        return f'<td class="text" data-value="{text(whole)}">{text(whole)}</td>'
    number = _NUMBER.search(whole)
    value = number[0].replace(",", "") if number else ""
    main, space, rest = re.fullmatch(r"(.*?)( (?=[±[]))?((?(2).*))", whole).groups()  # type: ignore[union-attr]
    shown = f"<strong>{text(main)}</strong>" if column.best and column.best[n] else text(main)
    spread = f" <small>{text(rest)}</small>" if space else ""
    kind = f' class="{judged}"' if column.is_delta and judged != "not resolved" else ""
    return f'<td{kind} data-value="{value}">{shown}{spread}</td>'


def _published(table: ItemTable) -> str:
    values = table.item.published
    if not values:
        return '<p class="note">No published value of this is known here.</p>'
    rows = [
        [
            value.what,
            "" if value.loss is None else f"{value.loss:g}",
            "" if value.delta is None else f"{value.delta:+g}",
            "" if value.delta is None else value.unit,
            value.trust,
            value.source,
        ]
        for value in values
    ]
    titles = ["What", "Loss", "Δ", "Unit of Δ", "Trust", "Source"]
    shown = html.table(titles, rows, ["What", "Unit of Δ", "Trust", "Source"], "Table of published values")
    return f'{shown}<p class="note">{text(TRUST)}</p>'


def _where(table: ItemTable) -> str:
    found = class_table(table)
    if found.empty:
        return ""
    rows, told = [], []
    for _, row in extremes(table).iterrows():
        mine = found[(found["pattern"] == row["pattern"]) & (found["setting"] == row["setting"])]
        for _, each in mine.iterrows():
            rows.append([row["pattern"], class_words(each), f"{each['tokens']:,}", delta_text(each)])
        ends = mine.sort_values("delta").iloc[[0, -1]].iterrows()
        told.append(f"{row['pattern']} " + " to ".join(f"{end['delta']:+.4f} ({class_words(end)})" for _, end in ends))
    words = f"Differences to the baseline by class of token, in nats per token: {'; '.join(told)}."
    titles = ["Pattern", "Tokens", "How many", "Δ [95 % interval]"]
    numbers = html.table(titles, rows, ["Pattern", "Tokens"], "Table of differences by class of token")
    details = f"<details><summary>The numbers of this figure</summary>{numbers}</details>"
    return _figure(classes, classes, table, words) + details


def _anchors(table: ItemTable) -> dict[str, str]:
    """The ids of the patterns' diagrams, by label, in the order of the table."""
    return {label: f"pattern-{n}" for n, label in enumerate(dict.fromkeys(table.rows["pattern"]))}


def _patterns(table: ItemTable) -> str:
    tables = {record["pattern"]["label"]: record["pattern"] for record in reversed(table.records)}
    cells = []
    width = diagram.HEAD * table.records[0]["config"]["model"]["n_head"]
    card = max(340, round(0.85 * width))
    for label, anchor in _anchors(table).items():
        pattern = SkipPattern.from_tables(tables[label]["key_source"], tables[label]["value_source"])
        about, panels = f"{label}. {_spoken_pattern(pattern)}", len(diagram.panels(pattern))
        drawn = diagram.svg(pattern, label.partition(", also ")[0])  # all of its names would take more room than it
        picture = html.picture(drawn.encode(), f"Diagram of {about}", max(400, panels * width))
        kind = " class=double" if panels * width > 1.5 * card else ""
        cells.append(html.figure(html.scrolling(picture, f"Diagram of {label}"), about, f" id={anchor}{kind}"))
    return f'<div class="patterns" style="--card:{card}px">{"".join(cells)}</div>'


def _spoken_pattern(pattern: SkipPattern) -> str:
    own = np.arange(pattern.n_layer)[:, None]
    keys, values = ((source != own).sum() for source in (pattern.key_source, pattern.value_source))
    heads = pattern.n_layer * pattern.n_head
    if not keys and not values:
        return f"All {heads} heads attend to their own layer."
    return f"Of {heads} heads {keys} read the keys and {values} the values of a layer below."


def _runs(tables: Sequence[ItemTable]) -> str:
    lines = [line for table in tables for line in table.lines]
    environments = [line["environment"] for line in lines]
    seconds = math.fsum(line["cost"]["seconds"] for line in lines if line["cost"])
    return html.facts(
        {
            "Runs": [len(lines)],
            "Seeds": sorted({line["seed"] for line in lines}),
            "Corpus": [corpus(table) for table in tables],
            "Processors": [processor for table in tables for processor in table.processors],
            "Threads": sorted({environment["threads"] for environment in environments}),
            "Precision": [table.precision for table in tables],
            "Python": [environment["python"] for environment in environments],
            "Versions": [", ".join(map(" ".join, each["versions"].items())) for each in environments],
            "Commits": [_commit(environment) for environment in environments],
            "Time": [f"{duration(seconds)} of training in all"],
        }
    )


def _commit(environment: Mapping[str, Any]) -> str:
    changes = environment.get("git_changes")
    return f"{str(environment.get('git_commit'))[:12]}{f' with changes {changes}' if changes else ''}"


def _again(table: ItemTable) -> str:
    scale, *overrides = table.scale.split("+")
    command = " ".join([f"sla-ablate reproduce {table.item.name} --scale {scale}", *overrides])
    lines = [
        f"{command:{len(command) + 11}}  # what is done is not done again",
        f"{command} --verify 2  # repeat two of the runs, drawn at random",
    ]
    return html.commands(lines)
