"""HTML: one self-contained document, and the parts that pages are made of."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.items.columns import minus
from sla_ablate.text import escape

_HERE = Path(__file__).parent


def text(words: object) -> str:
    """Text of any origin as HTML shows it, also between the quotes of an attribute; numbers get the sign of minus."""
    return escape.html(minus(str(words)))


def document(title: str, body: str) -> str:
    """A page with its style and script inside."""
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><style>{style}</style></head>\n'
        f"<body>{body}<script>{script}</script></body></html>\n"
    )


def sections(contents: Mapping[str, str]) -> str:
    """Sections under their titles, with links to them before; those without content are left out."""
    named = {title: (title.lower().replace(" ", "-"), content) for title, content in contents.items() if content}
    links = "".join(f'<li><a href="#{name}">{text(title)}</a></li>' for title, (name, _) in named.items())
    parts = "\n".join(
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{text(title)}</h2>'
        f"{content}</section>"
        for title, (name, content) in named.items()
    )
    return f'<nav aria-label="On this page"><ul>{links}</ul></nav><main>{parts}</main>'


def scrolling(content: str, name: str) -> str:
    """What may be wider than a phone, in a region of its own that the keyboard reaches too."""
    return f'<div class="wide" tabindex="0" role="region" aria-label="{text(name)}">{content}</div>'


def picture(svg: bytes, words: str, width: int) -> str:
    """A picture inside the page.

    Args:
        svg: the picture.
        words: what is seen in it, for those who cannot see it.
        width: in pixels, at which it is read with ease.
    """
    data = base64.b64encode(svg).decode()
    return f'<img style="--width:{width}px" alt="{text(words)}" src="data:image/svg+xml;base64,{data}">'


def figure(content: str, caption: str, attributes: str = "") -> str:
    """A picture with its caption, and the attributes of both."""
    return f"<figure{attributes}>{content}<figcaption>{text(caption)}</figcaption></figure>"


def table(titles: Sequence[str], rows: Sequence[Sequence[object]], words: Sequence[str], name: str) -> str:
    """A plain table.

    Args:
        titles: of the columns; the first has the names of the rows.
        rows: of cells.
        words: the titles of those columns that hold words, no numbers.
        name: of the table, for those who cannot see it.
    """
    kinds = [" class=text" if title in words else "" for title in titles]
    heads = "".join(f'<th scope="col"{kind}>{text(title)}</th>' for title, kind in zip(titles, kinds, strict=True))
    body = "".join(
        f'<tr><th scope="row">{text(row[0])}</th>'
        + "".join(f"<td{kind}>{text(cell)}</td>" for cell, kind in zip(row[1:], kinds[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    about = f'class=plain aria-label="{text(name)}"'
    return scrolling(f"<table {about}><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>", name)


def commands(lines: Sequence[str]) -> str:
    """Lines for a terminal, letter by letter."""
    code = "\n".join(map(escape.html, lines))
    return f'<pre tabindex="0" role="region" aria-label="Commands"><code>{code}</code></pre>'


def facts(values: Mapping[str, Sequence[object]]) -> str:
    """Names with their different values."""
    parts = (
        f"<dt>{text(name)}</dt><dd>{text('; '.join(dict.fromkeys(map(str, each))))}</dd>"
        for name, each in values.items()
    )
    return f"<dl>{''.join(parts)}</dl>"
