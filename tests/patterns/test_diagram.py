from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from sla_ablate import SkipPattern
from sla_ablate.patterns import diagram

SVG = "{http://www.w3.org/2000/svg}"


def test_text_has_the_top_layer_first_and_marks_what_no_head_reads():
    # Layer 1 reads layer 0 and is read by layer 2, which no layer reads.
    expected = """\
keys and values
layer   0  1  head
    2   1* ·
    1   0  ·
    0   ·  ·

·  reads its own layer     2  reads layer 2     *  no head reads its own: not computed
"""
    assert diagram.text(SkipPattern.skip_layer(3, 2, distance=1, heads=1)) == expected


def test_text_shows_keys_and_values_apart_where_they_differ():
    text = diagram.text(SkipPattern.first_layer(11, 2, share="values"))
    keys, values, _ = text.split("\n\n")
    assert keys.splitlines()[:3] == ["keys", "layer    0   1  head", "   10    ·   ·"]
    assert values.splitlines()[:3] == ["values", "layer    0   1  head", "   10    0*  0*"]


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 9))
def test_svg_has_a_disc_for_each_head_and_an_arc_for_each_skip_head(n_layer, n_head, seed):
    pattern = SkipPattern.random(n_layer, n_head, heads=n_head, seed=seed)
    svg = ET.fromstring(diagram.svg(pattern, "a < b & c"))
    legend = 3
    assert len(svg.findall(f"{SVG}circle")) == n_layer * n_head + legend
    assert len(svg.findall(f"{SVG}path")) == (n_layer - 1) * n_head
    assert svg.find(f"{SVG}title").text == "a < b & c"


def test_svg_arcs_end_at_the_layer_that_is_read():
    svg = diagram.svg(SkipPattern.from_tables([[0], [1], [0]]), "")
    ((x, top, dx, drop),) = (map(int, arc) for arc in re.findall(r'd="M(\d+) (\d+)q\d+ \d+ (\d+) (\d+)"', svg))
    discs = [(int(x), int(y)) for x, y in re.findall(r'cx="(\d+)" cy="(\d+)"', svg)]
    assert [discs[2], discs[0]] == [(x, top), (x + dx, top + drop)]
    assert discs[0][1] > discs[1][1] > discs[2][1]  # layer 0 at the bottom


def test_svg_fills_a_head_by_what_it_reads_and_whether_it_is_read():
    svg = ET.fromstring(diagram.svg(SkipPattern.skip_layer(3, 1, distance=1, heads=1), ""))
    fills = [disc.get("fill") for disc in svg.findall(f"{SVG}circle")[:3]]
    assert fills == [diagram.OWN, diagram.SKIP, "white"]


def test_svg_has_a_panel_each_for_keys_and_values_where_they_differ():
    svg = ET.fromstring(diagram.svg(SkipPattern.cross_layer(4, 2, share="keys"), ""))
    words = [text.text for text in svg.findall(f"{SVG}text")]
    assert {"keys", "values"} <= set(words)
    assert len(svg.findall(f"{SVG}circle")) == 2 * 4 * 2 + 3
