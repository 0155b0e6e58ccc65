"""A skip pattern drawn: as text for a terminal, and as an SVG picture."""

from __future__ import annotations

from sla_ablate.patterns import Mask, SkipPattern, Table
from sla_ablate.text import escape

Panel = tuple[str, Table, Mask]
"""What is drawn (keys, values or both), where each head reads it, and a mask of the heads whose own some head reads."""

OWN, SKIP = "#c4c4c4", "#0072b2"
"""Light grey, and the blue of Okabe and Ito's palette: told apart by colour-blind eyes and in grey print."""
HEAD, LAYER, RADIUS = 44, 34, 8
"""Distances from one head to the next and from one layer to the next, and the radius of a head's disc, in pixels."""


def text(pattern: SkipPattern) -> str:
    """Rows are layers, the highest on top; columns are heads. Keys and values stand apart where they differ."""
    legend = "·  reads its own layer     2  reads layer 2     *  no head reads its own: not computed\n"
    return "\n".join([*(_grid(*panel) for panel in panels(pattern)), legend])


def svg(pattern: SkipPattern, title: str) -> str:
    """A disc for each head, layer 0 at the bottom; an arc from each skip head down to the layer that it reads."""
    drawn = panels(pattern)
    panel_width, panel_height = pattern.n_head * HEAD + 60, pattern.n_layer * LAYER
    bottom = panel_height + 70
    width, height = max(60 + len(drawn) * panel_width, 9 * len(title) + 40, 420), bottom + 120
    legend = [
        ("reads its own layer", OWN, OWN),
        ("reads a layer below: the arc leads to it", SKIP, SKIP),
        ("likewise, and no head reads its own: not computed", "white", SKIP),
    ]
    elements = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" font-family="sans-serif" font-size="12">',
        f"<title>{escape.html(title)}</title>",
        '<rect width="100%" height="100%" fill="white"/>',
        _words(20, 28, title, 'font-size="15" font-weight="bold"'),
        _words(20, 48, f"{pattern.n_layer} layers × {pattern.n_head} heads"),
    ]
    for number, panel in enumerate(drawn):
        elements += _panel(*panel, left=60 + number * panel_width, bottom=bottom)
    for row, (words, fill, stroke) in enumerate(legend):
        y = bottom + 54 + row * 24
        elements += [_disc(30, y, fill, stroke), _words(48, y + 4, words)]
    return "\n".join([*elements, "</svg>\n"])


def panels(pattern: SkipPattern) -> list[Panel]:
    """Keys and values together, or one after the other where they are read from different layers."""
    keys, values = pattern.key_source, pattern.value_source
    if (keys == values).all():
        return [("keys and values", keys, pattern.keys_read)]
    return [("keys", keys, pattern.keys_read), ("values", values, pattern.values_read)]


def _grid(what: str, source: Table, read: Mask) -> str:
    n_layer, n_head = source.shape
    width = len(str(max(n_layer, n_head) - 1)) + 1
    lines = [what, "layer  " + "".join(f"{head:>{width}} " for head in range(n_head)) + " head"]
    for layer in reversed(range(n_layer)):
        cells = zip(source[layer], read[layer], strict=True)
        row = "".join(f"{'·' if s == layer else s:>{width}}{' ' if r else '*'}" for s, r in cells)
        lines.append(f"{layer:>5}  {row.rstrip()}")
    return "\n".join([*lines, ""])


def _panel(what: str, source: Table, read: Mask, left: int, bottom: int) -> list[str]:
    n_layer, n_head = source.shape
    arcs, discs = [], []
    for layer in range(n_layer):
        for head in range(n_head):
            below = layer - int(source[layer, head])
            x, y = left + head * HEAD, bottom - layer * LAYER
            colour = SKIP if below else OWN
            discs.append(_disc(x, y, colour if read[layer, head] else "white", colour))
            if below:
                arcs.append(_arc(x, y, below * LAYER, bulge=13 + 18 * below // n_layer))
    centre = left + (n_head - 1) * HEAD // 2
    middle, end = 'text-anchor="middle"', 'text-anchor="end"'
    axis_x, axis_y = left - 40, bottom - (n_layer - 1) * LAYER // 2
    return [
        *arcs,
        *discs,  # on the arcs
        *(_words(left - 16, bottom - layer * LAYER + 4, str(layer), end) for layer in range(n_layer)),
        *(_words(left + head * HEAD, bottom + 26, str(head), middle) for head in range(n_head)),
        _words(left + n_head * HEAD - 24, bottom + 26, "head"),
        _words(axis_x, axis_y, "layer", f'transform="rotate(-90 {axis_x} {axis_y})" {middle}'),
        _words(centre, bottom - n_layer * LAYER + 10, what, middle),
    ]


def _arc(x: int, y: int, drop: int, bulge: int) -> str:
    """An arc from (x, y) down by `drop`, bulging to the right; its control point lies twice as far out as the curve."""
    path = f"M{x} {y}q{2 * bulge} {drop // 2} 0 {drop}"
    return f'<path d="{path}" fill="none" stroke="{SKIP}" stroke-width="1.5"/>'


def _disc(x: int, y: int, fill: str, stroke: str) -> str:
    return f'<circle cx="{x}" cy="{y}" r="{RADIUS}" fill="{fill}" stroke="{stroke}" stroke-width="2"/>'


def _words(x: int, y: int, words: str, style: str = "") -> str:
    return f'<text x="{x}" y="{y}" {style}>{escape.html(words)}</text>'
