"""An item from nothing at `smoke`: what is done is not done again, here or elsewhere, and results can be checked."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from sla_ablate.items.item import FIRST_SEED
from sla_ablate.items.lines import append_lines, digest, read_lines

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lab(tmp_path_factory, small_corpus):
    """A folder with an item that was reproduced with two seeds, and its command."""
    folder = tmp_path_factory.mktemp("lab")
    data = [f"data.path={small_corpus}", f"data.cache={small_corpus.parent / 'cache'}", "data.tokenizer=bytes"]

    def reproduce(*arguments, code=0):
        command = [sys.executable, "-m", "sla_ablate", *arguments]
        if arguments[:1] == ("reproduce",) and "--list" not in arguments:
            command += [*data, "hydra/launcher=basic"]
        done = subprocess.run(
            [*command, "--results", "results"], cwd=folder, text=True, capture_output=True, env={**os.environ}
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    output = reproduce("reproduce", "skip_distance")
    (scale,) = (folder / "results/skip_distance/results").iterdir()
    return SimpleNamespace(
        folder=folder, data=data, run=reproduce, output=output, lines=scale / "runs.jsonl", scale=scale
    )


def test_overrides_that_change_what_is_computed_have_a_folder_of_their_own(lab):
    assert lab.scale.name == "smoke+data.tokenizer=bytes"


def test_every_run_has_a_line_with_the_loss_of_its_record(lab):
    lines = read_lines(lab.lines)
    assert len(lines) == 6
    assert [line["seed"] for line in lines] == [FIRST_SEED] * 3 + [FIRST_SEED + 1] * 3
    for line in lines:
        results = json.loads((lab.folder / "runs/smoke" / line["run_id"] / "results.json").read_text())
        validation = results["validation"]
        assert line["validation"]["nll"] == pytest.approx(sum(validation["nll"]), rel=1e-12)
        assert line["validation"]["tokens"] == sum(validation["tokens"])
        by_word = line["classes"]["word"].values()
        assert sum(each["nll"] for each in by_word) == pytest.approx(line["validation"]["nll"], rel=1e-9)
        assert len(line["heads"]["layers"]["generalised_jsd"]) == 3
        assert line["curve"]


def test_the_table_is_that_of_the_lines(lab):
    text = (lab.scale / "table.md").read_text()
    loss = {(line["pattern"]["label"], line["seed"]): line["validation"]["nll"] / line["validation"]["tokens"]
            for line in read_lines(lab.lines)}  # fmt: skip
    labels = sorted({label for label, _ in loss} - {"baseline"})
    for label in labels:
        deltas = [loss[label, seed] - loss["baseline", seed] for seed in (FIRST_SEED, FIRST_SEED + 1)]
        (row,) = (line for line in text.splitlines() if label in line and line.startswith("|"))
        assert f"{sum(deltas) / 2:+.4f}" in row
    assert {path.name for path in lab.scale.iterdir()} >= {"table.csv", "table.tex", "figure.svg", "report.html"}


def test_what_is_done_is_not_done_again(lab):
    before = lab.lines.read_bytes()
    assert "6 run(s), 6 of them done" in lab.run("reproduce", "skip_distance")
    assert lab.lines.read_bytes() == before


def test_lines_count_where_there_are_no_runs_and_one_that_is_gone_is_done_again(lab, tmp_path):
    shutil.move(lab.folder / "runs", tmp_path / "runs")
    whole = lab.lines.read_text().splitlines(keepends=True)
    lab.lines.write_text("".join(whole[:-1]))
    try:
        assert "1 run(s) to do" in lab.run("reproduce", "skip_distance", "--dry-run")
        lab.run("reproduce", "skip_distance")
        again = read_lines(lab.lines)[-1]
        assert again["validation"]["nll"] == json.loads(whole[-1])["validation"]["nll"]
    finally:
        shutil.rmtree(lab.folder / "runs", ignore_errors=True)
        shutil.move(tmp_path / "runs", lab.folder / "runs")
        lab.lines.write_text("".join(whole))


KILLED_AT_A_WRITE = """
import os, signal, sys
from sla_ablate.commands import main
left = int(sys.argv.pop(1))
def before(write):
    def maybe(*arguments, **options):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(*arguments, **options)
    return maybe
os.replace, os.fsync = before(os.replace), before(os.fsync)
main()
"""


def test_a_kill_before_any_write_loses_nothing(lab, tmp_path):
    """The same command again and again, killed before a later write each time, until it has come to its end."""
    shutil.copytree(lab.folder / "runs", tmp_path / "runs")
    command = ["reproduce", "skip_distance", *lab.data, "hydra/launcher=basic", "--results", "results"]
    codes = []
    for write in (1, 2, 3, 5, 8, 13, 21, 34, 55):
        killing = [sys.executable, "-c", KILLED_AT_A_WRITE, str(write), *command]
        codes.append(subprocess.run(killing, cwd=tmp_path, capture_output=True).returncode)
        if codes[-1] != -signal.SIGKILL:
            break
    assert codes[-1] == 0
    assert len(codes) > 5
    again = tmp_path / lab.scale.relative_to(lab.folder)
    assert {path.name for path in again.iterdir()} == {path.name for path in lab.scale.iterdir()}
    for name in ("runs.jsonl", "table.md", "table.csv", "table.tex", "classes.csv", "figure.svg"):
        assert (again / name).read_bytes() == (lab.scale / name).read_bytes(), name


def test_an_override_that_names_no_folder_is_refused(here):
    result = here("reproduce", "skip_distance", "data=sotu_bytes", "optim.lr='1e-3'")
    assert result.returncode == 2
    assert "names a folder of results" in result.stderr


def test_another_item_takes_over_what_it_shares(lab):
    """Of skip_heads at distance 2: the baseline's two seeds, and 2 of 2 heads, which is the default there."""
    assert "6 run(s), 4 of them done" in lab.run("reproduce", "skip_heads", "--dry-run")


def test_a_pattern_has_its_baseline_on_the_same_kind_of_processor(lab, tmp_path):
    """With lines from elsewhere the baselines that a missing run is paired with are run here too."""
    elsewhere = []
    for line in read_lines(lab.lines)[:-1]:
        line["environment"]["processor"] = "Another Processor"
        elsewhere.append({**line, "digest": digest(line)})
    whole = lab.lines.read_bytes()
    lab.lines.unlink()
    shutil.rmtree(lab.folder / "results/skip_heads", ignore_errors=True)  # which took some of them over
    shutil.move(lab.folder / "runs", tmp_path / "runs")
    append_lines(lab.lines, elsewhere)
    try:
        output = lab.run("reproduce", "skip_distance", "--dry-run")
        assert "2 run(s) to do" in output  # the missing one and the baseline of its seed
    finally:
        lab.lines.write_bytes(whole)
        shutil.move(tmp_path / "runs", lab.folder / "runs")


def test_repeated_results_agree_to_the_bit(lab):
    output = lab.run("reproduce", "skip_distance", "--verify", "1")
    assert "to the bit" in output
    assert "1 of 1 agree" in output


def test_a_repeated_result_that_differs_is_told(lab):
    whole = lab.lines.read_bytes()
    lines = read_lines(lab.lines)
    lab.lines.unlink()
    for line in lines:
        line["validation"]["nll"] *= 1.001
        append_lines(lab.lines, [{**line, "digest": digest(line)}])
    try:
        assert "0 of 1 agree" in lab.run("reproduce", "skip_distance", "--verify", "1", code=1)
    finally:
        lab.lines.write_bytes(whole)


def test_an_altered_line_ends_in_one_line(lab):
    whole = lab.lines.read_bytes()
    lab.lines.write_bytes(whole.replace(b'"seed": 11', b'"seed": 12', 1))
    try:
        output = lab.run("reproduce", "skip_distance", code=2)
        assert re.fullmatch(r"sla-ablate: .*runs\.jsonl, line 4 .* was altered .*\n", output.splitlines(True)[-1])
    finally:
        lab.lines.write_bytes(whole)


def test_the_list_tells_what_is_measured(lab):
    output = lab.run("reproduce", "--list")
    assert "smoke+data.tokenizer=bytes: 6 run(s)" in output
    assert "learning_rate: " in output


def test_power_tells_the_spread_of_the_pairs(lab):
    output = lab.run("power", "skip_distance", "--scale", lab.scale.name, "--delta", "0.01")
    assert "0.0100 nats/token: " in output
    assert "2 pair(s)" in output


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["skip_distanc"], "did you mean 'skip_distance'"),
        (["skip_distance", "--scale", "smok"], "did you mean 'smoke'"),
        (["skip_distance", "--seeds", "0"], "choose 1 to 1000"),
        (["skip_distance", "seed=3"], "--seeds"),
        ([], "needs an item"),
        (["skip_distance", "--list"], "leave out"),
        (["skip_distance", "--verify"], "no results"),
    ],
)
def test_bad_input_is_one_line(here, tmp_path, arguments, told):
    result = here("reproduce", *arguments)
    assert result.returncode == 2
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
