import json

import pytest
from terminal import shown

from analysis.figures import write_figures
from analysis.report import report_files, write_report
from analysis.terminal import render
from sla_ablate.errors import InputError
from sla_ablate.runs.record import write_record

FIGURES = {"differences.svg", "differences.png"}
TABLES = {"table.md", "table.tex", "table.csv", "runs.csv"}


def test_files_of_a_sweep(sweep):
    files = report_files(sweep)
    assert set(files) == TABLES | FIGURES
    assert files["runs.csv"].count(b"\n") == 1 + 9
    assert files["table.csv"].count(b"\n") == 1 + 3
    assert report_files(sweep) == files


def test_no_figure_without_pairs(record):
    assert set(report_files([record("baseline", 0), record("skip", 1)])) == TABLES


def test_one_figure_per_setting(record):
    records = [record(p, setting=s) for s in ("s1", "s2") for p in ("baseline", "skip")]
    assert set(report_files(records)) == TABLES | {
        f"differences-{s}.{suffix}" for s in ("s1", "s2") for suffix in ("svg", "png")
    }


def test_nothing_done_is_an_input_error(record):
    with pytest.raises(InputError, match=r"1 failed \(baseline\), 1 running \(skip\)"):
        report_files([record("baseline", state="failed"), record("skip", state="running")])


@pytest.mark.parametrize("out", [None, "elsewhere"])
def test_write_report(tmp_path, sweep, out):
    folder = tmp_path / "sweep"
    for record in sweep:
        run = folder / record["run_id"]
        run.mkdir(parents=True)
        write_record(run, record)
    report = write_report(folder, out and tmp_path / out)
    assert report == write_report(folder, out and tmp_path / out)
    assert report.faults == []
    written = tmp_path / out if out else folder / "report"
    assert {path.name for path in written.iterdir()} == TABLES | FIGURES
    assert report.out == written
    assert {path.name: path.read_bytes() for path in written.iterdir()} == report.files
    assert b"| worse" in report.files["table.md"]


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, analyzed):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "table.md").write_text("mine too")
    for write in (write_report, lambda sweep, *rest: list(write_figures("training", sweep, *rest))):
        with pytest.raises(InputError, match=r"out holds something else: notes.txt; .* --force"):
            write(analyzed, out)
    assert {path.read_text() for path in out.iterdir()} == {"mine", "mine too"}
    write_report(analyzed, out, force=True)
    assert (out / "notes.txt").read_text() == "mine"
    (out / "notes.txt").unlink()
    list(write_figures("training", analyzed, out))  # beside the report
    write_report(analyzed, out)


@pytest.mark.parametrize("width", [80, 200])
def test_what_fits_into_the_width_is_shown(sweep, width):
    text = render(sweep, [], width, False)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "\x1b" not in text
    assert ("KV-cache" in lines[0]) == ("Not shown at this width" not in text) == (width == 200)
    (row,) = (line for line in lines if line.startswith("worse"))
    assert "2.1533 ± 0.1002" in row
    assert "+0.0533 [+0.0390, +0.0677]" in row
    assert "validation on 100 tokens of 3 documents." in " ".join(lines)
    in_colour = render(sweep, [], width, True)
    assert "\x1b[31m" in in_colour
    assert shown(in_colour)[: len(lines)] == lines


def test_a_long_label_is_broken_and_not_cut(record):
    label = "reads a layer far below it, of every second layer, with all its heads"
    records = [record(p, seed, 2 + seed / 9) for p in ("baseline", "skip") for seed in (0, 1)]
    records[2]["pattern"]["label"] = records[3]["pattern"]["label"] = label
    lines = render(records, [], 80, False).splitlines()
    assert max(map(len, lines)) <= 80
    assert label in " ".join(" ".join(line[:32] for line in lines).split())


def test_formats(tmp_path, sweep, here):
    for record in sweep:
        run = tmp_path / "sweep" / record["run_id"]
        run.mkdir(parents=True)
        write_record(run, record)
    for form, name in (("markdown", "table.md"), ("csv", "table.csv"), ("latex", "table.tex")):
        done = here("report", "sweep", "--format", form)
        assert done.returncode == 0
        assert done.stdout == (tmp_path / "sweep/report" / name).read_text()
        assert done.stderr == "sweep/report/table.md; next: sla-ablate analyze sweep\n"
    rows = json.loads(here("report", "sweep", "--format", "json").stdout)
    assert [row["pattern"] for row in rows] == ["baseline", "unresolved", "worse"]
    assert rows[2]["p"] == pytest.approx(rows[2]["p_holm"] / 2)
    assert here("report", "sweep").stdout == render(sweep, [], 80, False)
