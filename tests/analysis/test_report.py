import pytest

from analysis.figures import write_figures
from analysis.report import report_files, write_report
from sla_ablate.errors import InputError
from sla_ablate.runs.record import write_record

FIGURES = {"differences.svg", "differences.png"}
TABLES = {"table.md", "table.csv", "runs.csv"}


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
    text, faults = write_report(folder, out and tmp_path / out)
    assert (text, faults) == write_report(folder, out and tmp_path / out)
    assert faults == []
    written = tmp_path / out if out else folder / "report"
    assert {path.name for path in written.iterdir()} == TABLES | FIGURES
    assert (written / "table.md").read_text() == text
    assert "| worse" in text


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
