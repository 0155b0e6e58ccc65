"""The figures of items show what their tables hold, legibly."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from analysis.figures.items import KINDS, classes, curves, item_figure
from analysis.figures.items.marks import VERDICTS
from analysis.figures.style import PAGE
from analysis.items.classes import class_table, extremes
from analysis.items.table import ItemTable, verdict
from sla_ablate.errors import InputError
from sla_ablate.items.published import Published
from sla_ablate.items.store import all_items


def assert_legible(figure):
    """No text below 7 points, nothing off the page or on top of other text, a page's width at most."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    words = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert min(text.get_fontsize() for text in words) >= 7
    assert figure.get_figwidth() <= PAGE
    drawn = figure.get_tightbbox(renderer)  # in inches
    assert min(drawn.x0, drawn.y0) >= 0
    assert drawn.x1 <= figure.get_figwidth()
    assert drawn.y1 <= figure.get_figheight()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            boxes = [label.get_window_extent(renderer) for label in axis.get_ticklabels() if label.get_text()]
            shown = [box for box in boxes if axes.bbox.padded(40).overlaps(box)]
            assert not [1 for n, box in enumerate(shown) for other in shown[:n] if box.overlaps(other)]


def means(axes):
    """(x, y) of every mean with an interval, in the order in which they were drawn."""
    return [tuple(np.ravel(container.lines[0].get_data())) for container in axes.containers]


def compared(table):
    return table.rows[(table.rows["pattern"] != "baseline") & (table.rows["pairs"] > 0)]


@pytest.mark.parametrize("name", sorted(all_items()))
def test_every_item_has_a_legible_figure(tables, name):
    assert_legible(item_figure(tables(name)))


@pytest.mark.parametrize("draw", [classes, curves])
@pytest.mark.parametrize("name", ["first_layer_values", "training_length"])
def test_what_every_item_has_is_legible(tables, draw, name):
    assert_legible(draw(tables(name)))


@pytest.mark.parametrize("draw", [*KINDS.values(), classes, curves])
def test_begins_with_its_question_and_then_says_what_is_seen(draw):
    question, about = draw.__doc__.split("\n\n")[:2]
    assert question.endswith("?")
    assert about.strip().endswith(".")
    assert not about.strip().startswith("Raises")


def test_line_of_a_key_of_the_pattern(tables):
    table = tables("skip_distance")
    (axes,) = item_figure(table).axes
    rows = compared(table).sort_values("pattern.distance")
    np.testing.assert_allclose([y for _, y in means(axes)], rows["delta"])
    dots = [line.get_ydata() for line in axes.lines if line.get_marker() == "."]
    np.testing.assert_allclose(np.sort(np.concatenate(dots)), np.sort(table.deltas["delta"]))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2", "3", "4", "5"]


def test_line_of_another_key_has_the_losses_beside(tables):
    table = tables("learning_rate")
    losses, deltas = item_figure(table).axes
    np.testing.assert_allclose(sorted(y for _, y in means(deltas)), np.sort(compared(table)["delta"]))
    drawn = [np.asarray(line.get_ydata(), float) for line in losses.lines if line.get_marker() != "None"]
    expected = [group["nats_per_token_mean"] for _, group in table.rows.groupby("pattern")]
    np.testing.assert_allclose(sorted(drawn, key=tuple), sorted(map(np.asarray, expected), key=tuple))


def test_grid_marks_the_published_cell(tables):
    table = tables("distance_by_heads")
    figure = item_figure(table)
    cells = {tuple(text.xy): text for text in figure.axes[0].texts}
    assert len(cells) == 20
    for _, row in compared(table).iterrows():
        text = cells[row["pattern.distance"] - 1, row["pattern.heads"] - 1]
        assert text.get_text().startswith(f"{row['delta']:+.3f}".replace("-", "−"))
        assert (text.get_fontweight() == "bold") == (verdict(row) != "not resolved")
    assert not [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]

    value = Published("what", "source", "high", delta=-0.1, pattern={"name": "sla", "distance": 3, "heads": 2},
                      layers=6, heads=4)  # fmt: skip
    item = table.item.__class__(**{**vars(table.item), "published": [value]})
    figure = item_figure(ItemTable(item, "micro", table.lines))
    (frame,) = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert frame.get_bbox().contains(2, 1)
    assert [text.get_text() for text in figure.legends[0].texts] == ["published: Δ −0.1 (nats per token)"]
    assert_legible(figure)


def test_rows_are_sorted_and_judged(tables):
    table = tables("relatives")
    (axes,) = item_figure(table).axes
    rows = compared(table).sort_values("delta")
    np.testing.assert_allclose([x for x, _ in means(axes)], rows["delta"])
    looks = [VERDICTS[verdict(row)] for _, row in rows.iterrows()]
    assert [container.lines[0].get_marker() for container in axes.containers] == [look.marker for look in looks]
    assert [container.lines[0].get_color() for container in axes.containers] == [look.colour for look in looks]
    assert len({look.marker for look in VERDICTS.values()}) == 3  # told apart in grey


def test_heads_have_a_mean_of_each_pattern(tables):
    table = tables("head_diversity")
    (axes,) = item_figure(table).axes
    pairs = table.head_deltas
    expected = pairs.groupby("pattern")[["heads", "delta"]].mean()
    np.testing.assert_allclose(sorted(means(axes)), sorted(map(tuple, expected.to_numpy())))
    looks = {(c.lines[0].get_color(), c.lines[0].get_marker()) for c in axes.containers}
    assert len(looks) == len(expected)


def test_classes_of_the_best_and_the_worst(tables):
    table = tables("skip_heads")
    panels = classes(table).axes
    found = class_table(table)
    assert [panel.get_title().split("\n")[0] for panel in panels] == [
        "by frequency", "by place", "by bigram", "by position",
    ]  # fmt: skip
    _, best = next(extremes(table).iterrows())
    mine = found[(found["pattern"] == best["pattern"]) & (found["partition"] == "recall")]
    bars = panels[2].containers[0]
    np.testing.assert_allclose(np.asarray(bars.lines[0].get_ydata(), float), mine["delta"])
    ends = [segment[:, 1] for segment in bars.lines[2][0].get_segments()]
    np.testing.assert_allclose(ends, mine[["delta_low", "delta_high"]])


def test_curves_are_of_every_run(tables):
    table = tables("skip_heads")
    left, right = curves(table).axes
    assert len(left.lines) == len(table.lines)
    ends = {round(line.get_ydata()[-1], 12) for line in left.lines}
    assert ends == {round(line["curve"][-1][1], 12) for line in table.lines}
    assert len(right.lines) == 1 + len(compared(table))  # and that of the baseline


def test_nothing_measured_is_said(tables):
    table = tables("skip_distance")
    baselines = [line for line in table.lines if line["pattern"]["label"] == "baseline"]
    bare = [{**line, "classes": None, "curve": [], "heads": None} for line in baselines]
    for draw in (item_figure, classes, curves):
        with pytest.raises(InputError, match="skip_distance at micro has no "):
            draw(ItemTable(table.item, "micro", bare))


def test_one_pair_and_a_curve_of_one_point_are_drawn(tables):
    table = tables("skip_distance")
    lines = [{**line, "curve": line["curve"][:1]} for line in table.lines if line["seed"] == 10]
    single = ItemTable(table.item, "micro", lines)
    assert_legible(item_figure(single))
    assert {line.get_marker() for line in curves(single).axes[0].lines} == {"."}
