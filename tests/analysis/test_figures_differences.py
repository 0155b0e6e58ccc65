import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from analysis.figures import paired_differences
from sla_ablate.errors import InputError


def seeds_and_means(figure):
    """What is drawn: the seed dots' x and the error bars' (mean, low, high)."""
    (axes,) = figure.axes
    dots = np.concatenate([line.get_xdata() for line in axes.lines if line.get_label() == "one seed"])
    bars = [
        (*mean, segment[0][0], segment[1][0])
        for container in axes.containers
        for mean, segment in zip(
            container.lines[0].get_xydata()[:, :1], container.lines[2][0].get_segments(), strict=True
        )
    ]
    return dots, bars


def test_draws_every_seed_and_the_interval_of_the_table(sweep):
    dots, bars = seeds_and_means(paired_differences(sweep))
    assert np.sort(dots) == pytest.approx([-0.01, -0.01, 0.01, 0.05, 0.05, 0.06])
    assert bars[0] == pytest.approx((-0.0033, -0.0320, 0.0254), abs=1e-4)
    assert bars[1] == pytest.approx((0.0533, 0.0390, 0.0677), abs=1e-4)


def test_patterns_from_best_to_worst(sweep):
    (axes,) = paired_differences(sweep).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["unresolved", "worse"]
    assert axes.yaxis_inverted()  # so the first, the best, is at the top
    assert "nats/token" in axes.get_xlabel()


def test_nothing_is_cut_off(record):
    """Every text lies inside the figure, with a long label too."""
    label = "SLA window, distance 5, 3 heads, keys"
    figure = paired_differences([record("baseline"), record(label, 0, 2.1)])
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    for text in (axes.xaxis.label, *axes.get_yticklabels(), *figure.legends[0].get_texts()):
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width


def test_one_pair_is_a_dot_without_an_interval(record):
    dots, bars = seeds_and_means(paired_differences([record("baseline"), record("skip", 0, 2.5)]))
    assert list(dots) == pytest.approx([0.5])
    assert bars == []


def test_no_pair_is_an_input_error(record):
    with pytest.raises(InputError, match="paired"):
        paired_differences([record("baseline", 0), record("skip", 1)])


def test_several_settings_are_an_input_error(record):
    with pytest.raises(InputError, match="one setting"):
        paired_differences([record(setting="s1"), record(setting="s2")])
