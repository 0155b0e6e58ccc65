"""The figures of an analyzed sweep show what its tables hold, legibly, and the same each time."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex
from matplotlib.text import Text
from PIL import Image

from analysis.comparison import BASELINE
from analysis.figures import FIGURES, OF_RUNS, open_settings, render, write_figures
from analysis.figures.attention import N_MIN, divergences, pooled
from analysis.figures.head_map import classical_scaling
from analysis.figures.panels import cut_intervals
from analysis.figures.pattern import drawn_patterns
from analysis.figures.style import FORMATS, PAGE, ROLES, drawing_on, looks
from analysis.statistics import paired_interval
from sla_ablate import GPT, GPTConfig, SkipPattern
from sla_ablate.commands import main
from sla_ablate.config.schema import RunConfig
from sla_ablate.data.shards import prepare
from sla_ablate.errors import InputError
from sla_ablate.runs.identity import identify
from sla_ablate.runs.record import read_record, write_config, write_record

FROM_TABLES = [name for name in FIGURES if name not in ("head_map", "attention_grid")]


@pytest.fixture(scope="module")
def data(analyzed):
    (data,) = open_settings(analyzed).values()
    return data


@pytest.fixture(scope="module")
def with_models(analyzed, small_corpus, tmp_path_factory):
    """The analyzed sweep with a model in each run."""
    folder = shutil.copytree(analyzed, tmp_path_factory.mktemp("models") / "sweep")
    for path in folder.glob("*/record.json"):
        record = read_record(path.parent)
        model = GPT(GPTConfig(2, 2, 8, 40, 257), SkipPattern.from_tables(record["pattern"]["key_source"]))
        model.save(path.parent / "checkpoints")
        config = RunConfig()
        config.data.path, config.data.tokenizer = str(small_corpus), "bytes"
        config.data.cache = str(small_corpus.parent / "cache")
        write_config(path.parent, config)
        setting = identify(config, prepare(config.data).digest).setting
        write_record(path.parent, {**record, "setting": setting})
    return folder


def value(data, **wanted):
    """The values of the table's rows with these columns, `None` for an empty one."""
    rows = data.heads
    for column, wish in wanted.items():
        rows = rows[rows[column].isna() if wish is None else rows[column].eq(wish).fillna(False)]
    return rows["value"].to_numpy()


def by_layer(data, metric, **wanted):
    """[layer] of one run, or of the heads of one role in it; of a layer as a whole, if the metric is."""
    if metric.startswith(("generalised_jsd", "effective_heads")):
        wanted["role"] = None
    return [value(data, metric=metric, layer=layer, position=None, **wanted).mean() for layer in (0, 1)]


def line(axes, **wanted):
    """The y values of each line with these properties."""
    found = [line for line in axes.lines if all(getattr(line, f"get_{k}")() == v for k, v in wanted.items())]
    return [np.asarray(line.get_ydata(), float) for line in found]


def error_bars(axes):
    """(mean, low, high) of each error bar, in the order in which they were drawn."""
    bars = []
    for container in axes.containers:
        if hasattr(container, "has_yerr") and container.has_yerr:
            segments = container.lines[2][0].get_segments()
            bars += [((s[0][1] + s[1][1]) / 2, s[0][1], s[1][1]) for s in segments if len(s)]
    return np.array(bars)


def intervals(groups):
    return np.array([(i.mean, i.low, i.high) for i in map(paired_interval, groups)])


def assert_legible(figure):
    """No text below 7 points, nothing off the page, a page's width at most."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 7
    assert figure.get_figwidth() <= PAGE
    drawn = figure.get_tightbbox(canvas.get_renderer())  # in inches
    assert drawn.x0 >= 0
    assert drawn.y0 >= 0
    assert drawn.x1 <= figure.get_figwidth()
    assert drawn.y1 <= figure.get_figheight()


@pytest.mark.parametrize("name", FROM_TABLES)
def test_is_legible(name, data):
    assert_legible(FIGURES[name](data))


@pytest.mark.parametrize("name", OF_RUNS)
def test_one_run_is_legible(name, with_models):
    (data,) = open_settings(with_models, "skip-s1-s1").values()
    assert_legible(FIGURES[name](data))


def test_files_are_the_same_each_time(data):
    first, second = ({suffix: render(FIGURES["generalised_jsd"](data), suffix) for suffix in FORMATS} for _ in range(2))
    assert first == second
    assert b"<dc:date>" not in first["svg"]
    assert b"CreationDate" not in first["pdf"]
    assert Image.open(io.BytesIO(first["png"])).width == 300 * PAGE


@pytest.mark.parametrize("name", FIGURES)
def test_begins_with_its_question(name):
    assert FIGURES[name].__doc__.splitlines()[0].endswith("?")


@pytest.mark.parametrize("name", [name for name in FROM_TABLES if name != "pattern"])
def test_axes_have_labels(name, data):
    figure = FIGURES[name](data)
    places = {axes: axes.get_subplotspec() for axes in figure.axes if axes.axison and axes.get_subplotspec()}
    assert all(axes.get_xlabel() for axes, place in places.items() if place.is_last_row())
    assert all(axes.get_ylabel() for axes, place in places.items() if place.is_first_col()) or name == "differences"


def test_a_pattern_looks_the_same_however_many_there_are():
    few, many = looks([BASELINE, "b 10", "b 9"]), looks([BASELINE, "b 10", "b 9", "c", *"defg"])
    assert list(few) == [BASELINE, "b 9", "b 10"]
    assert few.items() <= many.items()
    shown = list(many.values())[:4]
    for part in range(3):  # colour, marker, line
        assert len({look[part] for look in shown[1:]}) == 3
    assert len({look.colour for look in ROLES.values()} | {look.colour for look in shown}) == 6


def test_grey_tells_roles_apart():
    own, skip = (
        np.dot([int(look.colour[i : i + 2], 16) for i in (1, 3, 5)], [0.299, 0.587, 0.114]) for look in ROLES.values()
    )
    assert own - skip > 80


def test_layers(data):
    """Seeds, means and seed-paired intervals of the three columns."""
    figure = FIGURES["layers"](data)
    above, below = figure.axes[:3], figure.axes[3:6]
    for metric, up, down in zip(
        ("generalised_jsd", "effective_heads", "normalised_entropy"), above, below, strict=True
    ):
        seeds = {p: [by_layer(data, metric, pattern=p, seed=s) for s in range(3)] for p in (BASELINE, "skip")}
        black = line(up, color="#000000")
        np.testing.assert_allclose(black[:3], seeds[BASELINE])
        np.testing.assert_allclose(black[3], np.mean(seeds[BASELINE], 0))
        delta = np.subtract(seeds["skip"], seeds[BASELINE])
        np.testing.assert_allclose(error_bars(down), intervals(delta.T))
        np.testing.assert_allclose(np.sort(np.concatenate(line(down, marker="."))), np.sort(delta.ravel()))


def test_generalised_jsd_bars_add_up(data):
    figure = FIGURES["generalised_jsd"](data)
    for pattern, axes in zip((BASELINE, "skip"), figure.axes[:2], strict=True):
        parts = ("generalised_jsd_within", "generalised_jsd_between")
        expected = [by_layer(data, part, pattern=pattern, seed=s) for s in range(3) for part in parts]
        np.testing.assert_allclose([[bar.get_height() for bar in bars] for bars in axes.containers], expected)
        tops = [bar.get_y() for bars in axes.containers[1::2] for bar in bars]
        np.testing.assert_allclose(tops, np.ravel(expected[::2]))


def test_jsd_has_own_heads_first_on_the_fixed_scale(data):
    figure = FIGURES["jsd"](data)
    panels = [
        (axes, m)
        for axes in figure.axes
        for m in axes.collections
        if isinstance(m, QuadMesh) and m.get_array().shape == (2, 2)
    ]
    assert len(panels) == 4  # two runs, two layers
    for (axes, mesh), (pattern, layer) in zip(
        panels, ((p, i) for p in (BASELINE, "skip") for i in (0, 1)), strict=True
    ):
        assert mesh.get_clim() == pytest.approx((0, np.log(2)))
        (jsd,) = value(data, metric="pairwise_jsd", pattern=pattern, seed=0, layer=layer, head=0, other_head=1)
        np.testing.assert_allclose(mesh.get_array(), [[0, jsd], [jsd, 0]])
        skips = pattern == "skip" and layer == 1
        assert [tick.get_text() for tick in axes.get_xticklabels()] == (["1", "0"] if skips else ["0", "1"])
        assert bool(axes.lines) == skips  # the separators
    bars = [bar.get_height() for axes in figure.axes for container in axes.containers for bar in container]
    expected = [value(data, metric="normalised_entropy", pattern=p, seed=0, position=None) for p in (BASELINE, "skip")]
    np.testing.assert_allclose(np.sort(bars), np.sort(np.ravel(expected)))


@pytest.mark.parametrize(
    ("name", "metric"), [("entropy", "normalised_entropy"), ("distance", "attention_distance_off_sink")]
)
def test_every_head_of_every_seed(name, metric, data):
    figure = FIGURES[name](data)
    for pattern, axes in zip((BASELINE, "skip"), figure.axes, strict=True):
        for role, look in ROLES.items():
            drawn = line(axes, color=look.colour, linestyle="None")
            expected = value(data, metric=metric, pattern=pattern, role=role, position=None)
            np.testing.assert_allclose(np.sort(np.concatenate([[], *drawn])), np.sort(expected))
    uniform = [y for axes in figure.axes for y in line(axes, linestyle="--")]
    assert np.ravel(uniform).tolist() == ([1.0] * 4 if name == "entropy" else [])


def test_layer_similarity_of_every_run(data):
    figure = FIGURES["layer_similarity"](data)
    runs = [(pattern, seed) for pattern in (BASELINE, "skip") for seed in range(3)]
    for axes, (pattern, seed) in zip(figure.axes, runs, strict=False):
        (mesh,) = axes.collections
        of = {"metric": "map_similarity", "pattern": pattern, "seed": seed}
        expected = [[value(data, layer=i, other_layer=j, **of).mean() for j in (0, 1)] for i in (0, 1)]
        np.testing.assert_allclose(mesh.get_array(), expected)
        assert mesh.get_clim() == (0, 1)


def test_position(data):
    above, below = FIGURES["position"](data).axes
    nll = {p: [value(data, metric="nll", pattern=p, seed=s) for s in range(3)] for p in (BASELINE, "skip")}
    np.testing.assert_allclose(line(above, color="#000000"), [*nll[BASELINE], np.mean(nll[BASELINE], 0)])
    np.testing.assert_allclose(error_bars(below), intervals(np.subtract(nll["skip"], nll[BASELINE]).T))
    assert [tick.get_text() for tick in below.get_xticklabels()] == ["1", "2", "4"]


def test_importance(data):
    figure = FIGURES["importance"](data)
    for row, metric in enumerate(("importance", "knock_out")):
        axes = figure.axes[2 * row + 1]  # of the skip pattern
        own = np.array([by_layer(data, metric, pattern="skip", seed=s, role="own") for s in range(3)])
        skip = np.array(
            [value(data, metric=metric, pattern="skip", seed=s, role="skip", position=None) for s in range(3)]
        )
        bars = [bar.get_height() for container in axes.containers if hasattr(container, "patches") for bar in container]
        np.testing.assert_allclose(bars, [*own.mean(0), *skip.mean(0)])
        np.testing.assert_allclose(error_bars(axes), intervals([*own.T, *skip.T]))


def test_training(data):
    above, below = FIGURES["training"](data).axes
    losses = {}
    for pattern in (BASELINE, "skip"):
        for seed in range(3):
            lines = (data.folder / f"{pattern}-s{seed}-s1/metrics.jsonl").read_text().splitlines()
            losses[pattern, seed] = [row["loss"] for row in map(json.loads, lines) if "loss" in row]
    black = line(above, color="#000000", linestyle="-")
    np.testing.assert_allclose(black, [np.mean([losses[BASELINE, seed] for seed in range(3)], 0)])
    deltas = [np.subtract(losses["skip", seed], losses[BASELINE, seed]) for seed in range(3)]
    colour = looks([BASELINE, "skip"])["skip"].colour
    np.testing.assert_allclose(line(below, color=colour), [*deltas, np.mean(deltas, 0)])
    assert [y.tolist() for y in line(above, marker="x", color=colour)] == [[2, 2, 2]]


def test_long_training_curves_are_thinned_to_means(analyzed, tmp_path):
    folder = shutil.copytree(analyzed, tmp_path / "sweep")
    for path in folder.glob("*/metrics.jsonl"):
        lines = [json.dumps({"step": step, "loss": step % 2}) for step in range(1, 101)]
        path.write_text("\n".join([*lines, json.dumps({"step": 100, "validation_loss": 2})]))
    (data,) = open_settings(folder).values()
    above, _ = FIGURES["training"](data).axes
    for y in line(above, color="#000000", linestyle="-"):
        assert y.tolist() == [0.5] * 50


def test_pattern_has_an_arc_from_each_skip_head_to_its_source(data):
    baseline, skip = FIGURES["pattern"](data).axes
    assert not baseline.patches
    (arc,) = skip.patches
    assert arc.get_path().vertices[[0, -1]].tolist() == [[0, 1], [0, 0]]
    markers = {(float(m.get_xdata()[0]), float(m.get_ydata()[0])): m.get_marker() for m in skip.lines}
    assert markers == {(0, 0): "o", (1, 0): "o", (0, 1): "^", (1, 1): "o"}


def test_one_seed_has_no_intervals_and_no_baseline_no_differences(analyzed, tmp_path):
    folder = shutil.copytree(analyzed, tmp_path / "sweep")
    for path in folder.glob("*-s[12]-s1"):
        shutil.rmtree(path)
    (data,) = open_settings(folder).values()
    assert not len(error_bars(FIGURES["layers"](data).axes[3]))
    shutil.rmtree(folder / "baseline-s0-s1")
    (data,) = open_settings(folder).values()
    for name in FROM_TABLES:
        if name != "differences":
            FIGURES[name](data)


def test_divergences_and_pooled_maps_agree_with_whole_maps():
    import torch
    from scipy.spatial.distance import jensenshannon

    from analysis.diversity.maps import Maps

    generator = torch.Generator().manual_seed(0)
    T = 70
    q, k = (3 * torch.randn(2, 2, T, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    layers = [Maps(layer, q[layer], k[layer]) for layer in (0, 1)]
    scores = (q @ k.mT / 2).masked_fill(torch.ones(T, T).triu(1).bool(), -torch.inf)
    whole = scores.softmax(-1).flatten(0, 1).numpy()  # [4, T, T]
    rows = range(N_MIN - 1, T)
    expected = [[np.mean([jensenshannon(a[i], b[i]) ** 2 for i in rows]) for b in whole] for a in whole]
    np.testing.assert_allclose(divergences(layers, T), expected, atol=1e-9)
    np.testing.assert_allclose(divergences(layers, 40), expected, atol=0.1)
    squares = np.zeros((2, 35, 35))
    for h, i, j in np.ndindex(2, T, T):
        squares[h, i // 2, j // 2] = max(squares[h, i // 2, j // 2], whole[h, i, j])
    np.testing.assert_allclose(pooled(layers[0], 64), squares, atol=1e-6)


def test_classical_scaling_finds_points_of_a_plane_again():
    points = np.random.default_rng(0).normal(size=(7, 2)) * [3, 1]
    squared = ((points[:, None] - points) ** 2).sum(-1)
    found, stress = classical_scaling(squared)
    np.testing.assert_allclose(((found[:, None] - found) ** 2).sum(-1), squared, atol=1e-9)
    assert stress == pytest.approx(0, abs=1e-7)
    # Three points at distance 1 from one another and a fourth above their centre do not fit into a plane.
    assert classical_scaling(1 - np.eye(4))[1] > 0.1


def test_command_line_draws_one_figure_of_one_run(with_models, capsys):
    folder = with_models
    with pytest.raises(SystemExit) as exit_:
        main(["figure", "attention_grid", str(folder), "--run", "baseline-s1-s1"])
    assert exit_.value.code == 0
    written = [str(folder / f"figures/attention_grid.{suffix}") for suffix in (*FORMATS, "txt")]
    assert capsys.readouterr().out.splitlines() == written
    assert {path.name for path in (folder / "figures").iterdir()} == {
        f"attention_grid.{suffix}" for suffix in (*FORMATS, "txt")
    }


def test_head_map_shows_every_head_in_its_layer_and_says_the_stress(with_models):
    (data,) = open_settings(with_models).values()
    figure = FIGURES["head_map"](data)
    assert figure.legends[0].get_title().get_text().startswith("stress 0.")
    own, skip = figure.axes[1].collections  # upper row, the skip pattern
    assert own.get_array().tolist() == [0, 0, 1]
    assert skip.get_array().tolist() == [1]
    assert_legible(figure)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["layer"], "figure 'layer' is unknown; .*did you mean 'layers'"),
        (["jsd", "--run", "baseline-s9"], "run 'baseline-s9' is unknown; .*did you mean 'baseline-s"),
        (["layers", "--run", "baseline-s0-s1"], "figure layers shows all runs; a run can be chosen for pattern, jsd"),
    ],
)
def test_bad_input_is_one_line(arguments, message, analyzed, capsys, tmp_path):
    name, *options = arguments
    with pytest.raises(SystemExit) as exit_:
        main(["figure", name, str(analyzed), "--out", str(tmp_path / "out"), *options])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert not (tmp_path / "out").exists()


def test_all_without_an_analysis_draws_what_needs_none(analyzed, tmp_path, monkeypatch):
    monkeypatch.setattr("analysis.figures.FORMATS", ("svg",))
    folder = shutil.copytree(analyzed, tmp_path / "sweep", ignore=shutil.ignore_patterns("analysis"))
    drawn = []
    with pytest.raises(InputError) as error:
        drawn += write_figures("all", folder)
    assert str(error.value) == f"{folder} was not analyzed; run: sla-ablate analyze {folder}"
    assert {path.stem for path in (folder / "figures").iterdir()} == {"pattern", "differences", "training"}


def test_a_run_that_came_after_the_analysis_is_told(analyzed, tmp_path, record):
    folder = shutil.copytree(analyzed, tmp_path / "sweep")
    new = record("skip", 7)
    (folder / new["run_id"]).mkdir()
    write_record(folder / new["run_id"], new)
    with pytest.raises(InputError, match="not analyzed, so in no figure of heads: skip-s7-s1; run: sla-ablate analyze"):
        list(write_figures("entropy", folder))
    assert (folder / "figures" / "entropy.svg").exists()


def test_settings_have_a_file_each(tmp_path, record, monkeypatch):
    monkeypatch.setattr("analysis.figures.FORMATS", ("svg",))
    for setting in ("s1", "s2"):
        for pattern in (BASELINE, "skip"):
            one = record(
                pattern, setting=setting, config={"optim": {"lr": 1 / int(setting[1]), "steps": 3, "batch_size": 1}}
            )
            (tmp_path / one["run_id"]).mkdir()
            write_record(tmp_path / one["run_id"], one)
    names = [path.name for path in write_figures("differences", tmp_path)]
    assert names == [f"differences-lr{lr}.{suffix}" for lr in (1.0, 0.5) for suffix in ("svg", "txt")]


def test_a_command_draws_the_same_whatever_a_user_has_set(analyzed, tmp_path, data):
    def drawn(**environment):
        command = [sys.executable, "-m", "sla_ablate", "figure", "training", str(analyzed), "--out", str(tmp_path)]
        command += ["--force"]  # for the file beside the figures
        subprocess.run(command, cwd=tmp_path, env=os.environ | environment, check=True)
        return (tmp_path / "training.svg").read_bytes()

    expected = drawn()
    (tmp_path / "matplotlibrc").write_text("axes.grid: True\nsavefig.bbox: tight\ntext.usetex: True\n")
    assert drawn(MPLBACKEND="nonsense") == expected
    with mpl.rc_context({"axes.facecolor": "#123456"}):  # from Python it is the user's
        assert to_hex(FIGURES["training"](data).axes[0].get_facecolor()) == "#123456"


def test_neither_pyplot_nor_torch_is_imported():
    code = "import sys, analysis.figures; sys.exit(any(m in sys.modules for m in ('matplotlib.pyplot', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_text_of_an_svg_is_text_with_title_and_description(data, analyzed, tmp_path):
    paths = {path.suffix: path for path in write_figures("entropy", analyzed, tmp_path)}
    assert set(paths) == {".svg", ".pdf", ".png", ".txt"}
    told = paths[".txt"].read_text(encoding="utf-8").strip()
    assert told.startswith("Which heads look at few tokens")
    assert re.search(r"n = .*\. Model: 2 layers × .*Corpus: .*documents\.$", told)
    root = ElementTree.fromstring(paths[".svg"].read_bytes())
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}title").text == told.split("?")[0] + "?"
    assert root.find(f"{space}desc").text == told
    assert "layer" in {text.text for text in root.iter(f"{space}text")}
    assert Image.open(paths[".png"]).text["Description"] == told


@pytest.mark.parametrize("name", FROM_TABLES)
def test_a_figure_takes_the_place_of_axes(name, data):
    figure, (left, right) = plt.subplots(1, 2, layout="constrained", figsize=(12, 6))
    right.plot([0, 1])
    with drawing_on(left):
        part = FIGURES[name](data)
    FigureCanvasAgg(figure).draw()
    assert left not in figure.axes
    assert right in figure.axes
    assert part in figure.subfigs
    alone = FIGURES[name](data)
    assert len(part.findobj(Axes)) == len(alone.findobj(Axes))
    plt.close(figure)


def test_axes_that_are_no_subplot_are_refused(data):
    axes = mpl.figure.Figure().add_axes((0, 0, 1, 1))
    with drawing_on(axes), pytest.raises(InputError, match="no subplot"):
        FIGURES["training"](data)


def test_what_a_user_has_set_holds(data):
    with mpl.rc_context({"font.size": 11, "axes.labelsize": 13}):
        axes = FIGURES["entropy"](data).axes[0]
        assert axes.yaxis.label.get_fontsize() == 13
    assert FIGURES["entropy"](data).axes[0].yaxis.label.get_fontsize() == 8


def test_a_bare_pattern_is_drawn():
    assert_legible(drawn_patterns({"SLA": SkipPattern.skip_layer(12, 12)}))


def test_intervals_that_are_cut_have_an_arrow_at_their_end():
    axes = mpl.figure.Figure().add_subplot()
    axes.errorbar([0, 1], [1, 1], [0.2, 9], fmt="o")
    cut_intervals([axes], 0, 2)
    assert sorted((line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines[-2:]) == [(1, 0), (1, 2)]
    assert len(axes.lines) == 3  # the means, and an arrow at either end of the second interval
