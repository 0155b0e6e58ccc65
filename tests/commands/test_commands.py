"""The command line as a user has it: real processes where runs start, this one where none does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sla_ablate import commands
from sla_ablate.files import claim
from sla_ablate.launch.plan import stored_plan
from sla_ablate.runs.record import read_record, write_record
from sla_ablate.runs.sweep import read_sweep

TINY = [
    "model.n_layer=3", "model.n_head=2", "model.n_embd=16", "model.block_size=16", "data.tokenizer=bytes",
    "optim.steps=4", "optim.batch_size=2", "optim.warmup_steps=1", "trainer.log_every=2",
]  # fmt: skip


@pytest.fixture(scope="session")
def tiny(small_corpus):
    return [*TINY, f"data.path={small_corpus}", f"data.cache={small_corpus.parent / 'cache'}"]


def start(folder, *arguments):
    """Runs `sla-ablate` as a user does, in a folder; returns the finished process."""
    return subprocess.run(
        [sys.executable, "-m", "sla_ablate", *arguments], cwd=folder, capture_output=True, text=True, env=os.environ
    )


@pytest.fixture
def sla(tmp_path):
    return lambda *arguments: start(tmp_path, *arguments)


SWEEP = ["train", "-m", "pattern=baseline,sla", "pattern.distance=1,2", "seed=0,1", "sweep=s"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory, tiny):
    """A folder in which `SWEEP` was run, and what it said. It is shared: copy it before you write to it."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, start(folder, *SWEEP, *tiny)


@pytest.fixture
def copy(trained, tmp_path):
    """A folder of one's own in which `SWEEP` was run."""
    shutil.copytree(trained[0] / "runs", tmp_path / "runs")
    return tmp_path


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optim.lrr=1"], "option 'optim.lrr' is unknown; .*did you mean 'optim.lr'"),
        (["+experimnt=demo"], "option 'experimnt' is unknown; .*did you mean 'experiment'"),
        (["+new=1"], "option 'new' is unknown; choose from "),
        (["pattern=slaa"], "pattern 'slaa' is unknown; choose from baseline, .*did you mean 'sla'"),
        (["hydra/launcher=lokal"], "hydra/launcher 'lokal' is unknown; .*did you mean 'local'"),
        (["optim.lr=fast"], "optim.lr: Value 'fast' of type 'str' could not be converted to Float"),
        (["optim.lr=["], "'optim.lr=\\[' is no override"),
        (["optim.lr=nan"], "optim.lr=nan is not possible"),
        (["seed=0,1"], "'seed=0,1' has several values; add -m"),
        (["model=null"], "model .*unknown; choose from gpt2, micro, nano"),
        (["pattern=sla", "pattern.distance=6"], "distance=6 is not possible with 6 layers; .*nearest 5"),
        (["pattern=sla", "pattern.heads=5"], "heads=5 is not possible with 4 heads .*nearest 4"),
        (["pattern=tables"], "pattern=tables needs pattern.key_source"),
        (["pattern=sla", "pattern.placement=lst"], "placement 'lst' is unknown; .*did you mean 'last'"),
        (["pattern=tables", "pattern.key_source=[[0]]"], "1 layers × 1 heads, the model has 6 × 4"),
        (["model.n_embd=130"], "n_embd=130 is not a multiple of n_head=4; nearest possible width 128"),
        (["optim.micro_batches=3"], "micro_batches=3 does not divide optim.batch_size=4"),
        (["optim.warmup_steps=601"], "warmup_steps=601 is more than optim.steps=600"),
        (["trainer.precision=bf61"], "'bf61' is unknown; choose from auto, bf16, fp32; did you mean 'bf16'"),
        (
            ["data.tokenizer=bytes", "model.block_size=99999999"],
            "block_size=99999999 is longer than the training split",
        ),
        (["data.path=/nowhere/x.txt"], "'/nowhere/x.txt' does not exist"),
        (["--force"], "option '--force' is unknown"),
        *(
            ([f"sweep='{name}'"], "sweep=.* is no name of a sweep; choose letters, digits")
            for name in ("..", ".x", "a/b", "a b", "a=b", "é", "*", "a?")
        ),
        (["-m", "pattern=sla", "pattern.distance=1,7,x"], "pattern.distance: Value 'x'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_and_writes_nothing(here, tmp_path, small_corpus, overrides, message):
    cache = f"data.cache={small_corpus.parent / 'cache'}"
    done = here("train", cache, *overrides)
    assert done.returncode == 2, done.stderr
    assert re.search(message, done.stderr), done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == "" or "prepared" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["${oc.env:SECRET}", "${}"])
def test_the_name_of_a_folder_is_read_as_no_variable(here, tmp_path, tiny, monkeypatch, name):
    monkeypatch.setenv("SECRET", "secret")
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    for arguments in (["train", *tiny], ["train", "-m", *tiny, "seed=0,1"], ["prepare", *tiny]):
        done = here(*arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert f"'{tmp_path / name}' has a name in which Hydra reads a variable" in done.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / name]
    assert list((tmp_path / name).iterdir()) == []


def test_bad_input_is_one_line_of_a_real_process_too(sla, tmp_path):
    done = sla("train", "optim.lrr=1")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("sla-ablate: option 'optim.lrr' is unknown")
    assert list(tmp_path.iterdir()) == []


def test_every_fault_of_a_multirun_is_told_before_anything_starts(here, tmp_path, tiny):
    done = here("train", "-m", *tiny, "pattern=sla", "pattern.distance=1,3,4")
    assert done.returncode == 2
    assert [line.split(" is ")[0] for line in done.stderr.splitlines()] == [
        "sla-ablate: distance=3",
        "sla-ablate: distance=4",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_multirun(trained):
    folder, done = trained
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 asked for, 6 run(s), 0 already done" in done.stdout  # the baseline ignores the distance
    assert "6 done" in done.stdout

    found = read_sweep(folder / "runs" / "s").records
    assert [r["state"] for r in found] == ["done"] * 6
    assert len({r["pairing"] for r in found}) == 2
    assert len({r["setting"] for r in found}) == 1
    by_name = {(r["pattern"]["label"], r["seed"]): r for r in found}
    assert ("SLA, distance 2, 2 of 2 heads", 1) in by_name
    record = by_name["baseline", 0]
    assert record["cost"]["tokens"] == 4 * 2 * 16
    assert record["environment"]["threads"] == 1
    assert record["data"]["split_by"] == "id"
    assert record["results"]["validation"]["stride"] == 16

    run = folder / "runs" / "s" / record["run_id"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config == record["config"]
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [m["step"] for m in metrics] == [2, 4, 4]
    from safetensors.numpy import load_file

    assert load_file(run / "checkpoints" / "model.safetensors")["wte.weight"].shape == (257, 16)


@pytest.mark.slow
def test_a_repeated_multirun_trains_nothing(copy, sla, tiny):
    def files():
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in copy.rglob("*") if path.is_file()}

    before = files()
    again = sla(*SWEEP, *tiny)
    assert again.returncode == 0
    assert "6 already done" in again.stdout
    assert files() == before


@pytest.mark.slow
def test_a_report(copy, here):
    report = here("report", "runs/s", "--format", "markdown")
    assert report.returncode == 0, report.stderr
    assert report.stdout.count("\n| ") >= 3
    assert "SLA, distance 2" in report.stdout
    assert {path.name for path in (copy / "runs/s/report").iterdir()} >= {"table.md", "table.csv", "differences.svg"}


@pytest.mark.slow
def test_a_failed_run_ends_alone_with_exit_code_1_and_is_retried(sla, tmp_path, tiny):
    sweep = ["train", "-m", *tiny, "seed=0,1", "sweep=f"]
    # There is no GPU, which only the run itself can find out.
    done = sla(*sweep, "trainer.accelerator=gpu")
    assert done.returncode == 1
    assert "2 failed" in done.stdout
    first = read_sweep(tmp_path / "runs" / "f").records[0]
    assert first["state"] == "failed"
    assert re.fullmatch("exit code 1: trainer.accelerator=gpu is not possible, .*; choose auto or cpu", first["error"])

    again = sla(*sweep)
    assert again.returncode == 0, again.stdout
    assert [(r["state"], r["attempt"]) for r in read_sweep(tmp_path / "runs" / "f").records] == [("done", 2)] * 2


@pytest.mark.slow
def test_parallel_launcher_gives_the_same_results(sla, tmp_path, trained, tiny, small_corpus, monkeypatch):
    relative = f"data.path={os.path.relpath(small_corpus, tmp_path)}"
    options = ["hydra/launcher=local", "hydra.job.chdir=true"]
    parallel = sla("train", "-m", *tiny, relative, "pattern=baseline", "seed=0,1", *options)
    assert parallel.returncode == 0, parallel.stderr
    assert parallel.stderr == "runs/default; next: sla-ablate report runs/default\n"
    one = [
        record for record in read_sweep(trained[0] / "runs" / "s").records if record["pattern"]["label"] == "baseline"
    ]
    two = read_sweep(tmp_path / "runs" / "default").records
    assert [r["results"] for r in one] == [r["results"] for r in two]
    assert [r["run_id"] for r in one] == [r["run_id"] for r in two]
    monkeypatch.chdir(tmp_path.parent)
    again = stored_plan(Path(tmp_path.name) / "runs/default", [])  # which finds the corpus from here too
    assert [run.folder.name for run in again.runs] == [r["run_id"] for r in two]


@pytest.mark.slow
def test_a_run_held_by_a_living_process_is_left_alone(copy, sla, tiny):
    run, *_ = copy.glob("runs/s/baseline-s0-*")
    (run / "record.json").unlink()
    with claim(run) as lock:
        assert lock is not None
        done = sla("train", *tiny, "sweep=s")
    assert "another process runs it; left alone" in done.stdout
    assert not (run / "record.json").exists()


def test_report_of_nothing_is_one_line(here):
    Path("runs/mine").mkdir(parents=True)
    done = here("report", "runs/min")
    assert done.returncode == 2
    assert done.stderr == "sla-ablate: runs/min holds no runs; beside it there are: mine\n"


def test_a_list_tokenizes_nothing_and_tells_what_is_known(here, tmp_path, small_corpus):
    runs = ["train", "-m", *TINY, f"data.path={small_corpus}", "data.cache=cache", "pattern=baseline,sla_near"]
    done = here(*runs, "--list")
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:3]] == [
        ["baseline-s0-…", "unknown"],
        ["sla-d1-h2-s0-…", "unknown"],
    ]
    assert "2 run(s): 2 unknown" in done.stdout
    assert "unknown until the corpus is tokenized" in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert "/none.txt' does not exist" in here(*runs, "--list", "data.path=none.txt").stderr

    assert here("prepare", *runs[2:]).returncode == 0
    listed = here(*runs, "--list").stdout
    assert re.search(r"^baseline-s0-[0-9a-f]{8} +waiting", listed, re.MULTILINE)
    assert "2 run(s): 2 waiting" in listed and "unknown" not in listed


def test_prepare_tells_what_it_made(here, tiny):
    done = here("prepare", *tiny)
    assert done.returncode == 0, done.stderr
    assert "train: " in done.stdout
    assert " documents, " in done.stdout


def test_prepare_makes_each_corpus_of_a_sweep_once(here, tiny):
    done = here("prepare", *tiny, "experiment=demo", "data.validation_fraction=0.2,0.3")
    assert done.returncode == 0, done.stderr
    assert [line.startswith("train: ") for line in done.stdout.splitlines()].count(True) == 2


def test_patterns_of_one_model(here):
    done = here("patterns")
    assert done.returncode == 0, done.stderr
    table, lacking = done.stdout.split("\nnot with these options:\n")
    rows = {line.split()[0]: line for line in [*table.splitlines()[3:], *lacking.splitlines()]}
    conf = Path(__file__).parents[2] / "conf" / "pattern"
    names = {path.stem for path in conf.glob("*.yaml")}
    assert set(rows) == names - {"lasagna", "sla_far"}  # the same tables as others
    assert rows["sla"].endswith("   SLA, distance 4, 3 of 4 heads (also sla_far)")
    assert rows["baseline"].split() == ["baseline", "1.000", "1.000", "baseline"]
    assert rows["cla"].split()[1] == "0.500"
    assert rows["cla"].endswith("   CLA, groups of 2 (also lasagna)")
    assert "needs pattern.key_source" in rows["tables"]
    assert len(here("patterns", "model=micro,nano").stdout.split("relative to the baseline:")) == 3


def test_a_picture_of_a_pattern_replaces_nothing_but_such_a_picture(here, tmp_path):
    draw = ("patterns", "model=micro", "pattern=sla", "pattern.distance=1", "--svg")
    assert [here(*draw, "sla.svg").returncode for _ in range(2)] == [0, 0]
    (tmp_path / "record.json").write_text("{}")
    done = here(*draw, "record.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "sla-ablate: --svg record.json is no picture of a pattern; choose another name or add --force\n"
    )
    assert (tmp_path / "record.json").read_text() == "{}"
    assert here(*draw, "record.json", "--force").returncode == 0
    assert (tmp_path / "record.json").read_bytes() == (tmp_path / "sla.svg").read_bytes()


def test_patterns_shows_tables_diagram_and_costs(here):
    model = ["model.n_layer=2", "model.n_head=2", "model.n_embd=4", "model.block_size=3", "data.tokenizer=bytes"]
    done = here("patterns", *model, "pattern=sla", "pattern.distance=1", "pattern.heads=1", "--svg", "d/sla.svg")
    assert done.returncode == 0, done.stderr
    # Two layers of 12 · 4² weights and 13 · 4 in vectors, a final norm of 8, embeddings of (257 + 3) · 4.
    # Unread are a key and a value head 2 wide: 4 rows of 4 and a bias.
    # FLOPs: 2 · (2 · 192 + 257 · 4), and 16 a layer for each of the 2 keys that a query sees on average.
    expected = """\
SLA, distance 1, 1 of 2 heads: 2 layers × 2 heads

key_source = value_source =
[[0,0],
 [0,1]]

keys and values
layer   0  1  head
    1   0* ·
    0   ·  ·

·  reads its own layer     2  reads layer 2     *  no head reads its own: not computed

                                  baseline  SLA, distance 1, 1 of 2 heads   ratio
parameters                           1,536                          1,536   1.000
parameters read                      1,536                          1,516   0.987
forward FLOPs per token              2,888                          2,856   0.989
training FLOPs per token             8,664                          8,568   0.989
KV-cache bytes per token                32                             24   0.750
"""
    assert done.stdout == expected
    assert Path("d/sla.svg").read_text().startswith("<svg ")


def test_patterns_has_a_section_for_each_pattern(here):
    done = here("patterns", "pattern=baseline,sla_near,first_layer_values", "pattern.share=values", "seed=0,1")
    titles = [line for line in done.stdout.splitlines() if line.endswith("6 layers × 4 heads")]
    assert [title.split(":")[0] for title in titles] == [
        "baseline",
        "SLA, distance 1, 3 of 4 heads, values only",
        "first layer, 4 of 4 heads, values only",
    ]


def test_layer_types_are_a_pattern_without_another_name(here):
    done = here("patterns", "pattern.layer_types=0_0_2_2_4_4,0_0_0_0_4_4")
    titles = [line for line in done.stdout.splitlines() if line.endswith("6 layers × 4 heads")]
    assert [title.split(":")[0] for title in titles] == ["layers 0_0_2_2_4_4", "layers 0_0_0_0_4_4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sgv", "x.svg"], "option '--sgv' is unknown; allowed: --svg FILE"),
        (["pattern=cla", "--svg"], "argument --svg: expected one argument"),
        (["--svg", "x.svg"], "--svg draws one pattern; choose it with pattern=NAME"),
        (["pattern=cla,yoco", "--svg", "x.svg"], "--svg draws one pattern, not 2"),
        (["pattern=cla", "--svg", "."], r"sla-ablate: \.: [A-Z]"),
        (["pattern=yocco"], "pattern 'yocco' is unknown; .*did you mean 'yoco'"),
        (["pattern=yoco", "pattern.split=6"], "split=6 is not possible with 6 layers; choose 0 to 5, nearest 5"),
        (["pattern=cla", "pattern.share=key"], "share 'key' is unknown; choose from both, keys, values"),
        (
            ["pattern=cla", "pattern.distance=3"],
            "pattern.distance is of no use to pattern cla; options are group_size, share",
        ),
        (["pattern=baseline,cla", "pattern.heads=1,2"], "pattern.heads is of no use to pattern baseline, cla; "),
        (["pattern=baseline", "pattern.options.period=1"], "pattern.options.period is of no use to pattern baseline"),
        (["pattern.share=key"], "share 'key' is unknown; choose from both, keys, values"),
        (["model.n_head=0"], "model.n_head=0 is not possible; choose 1 to 4096"),
        (["pattern.layer_types=0_1_5_5_5_5"], "layer_types=0_1_5_5_5_5: layer 2 reads layer 5; .*0 to 2"),
        (["pattern=tables", "pattern.value_source=[[0,0]]"], "pattern=tables needs pattern.key_source"),
    ],
)
def test_patterns_refuses_bad_input_in_one_line(here, tmp_path, arguments, message):
    done = here("patterns", *arguments)
    assert done.returncode == 2
    assert re.search(message, done.stderr), done.stderr
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert list(tmp_path.iterdir()) == []


def test_patterns_needs_no_torch():
    code = "import sys, sla_ablate.commands.patterns as c; c.run(['pattern=cla']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.slow
def test_generation_from_a_run(here, trained):
    run, *_ = trained[0].glob("runs/s/sla-d1-*")

    def generate(*options):
        return here("generate", str(run), "the law ", "--max-new-tokens", "30", *options)

    text = generate("--seed", "1").stdout
    assert text.startswith("the law ")
    assert len(text) > len("the law \n")
    assert generate("--seed", "1").stdout == text != generate("--seed", "2").stdout
    assert generate("--top-k", "1").stdout == generate("--temperature", "0", "--seed", "2").stdout

    for folder, options, message in [
        (run, ["--temperature", "-1"], "--temperature: -1 is not possible"),
        (run, ["--top-p", "2"], "--top-p: 2 is not possible; choose more than 0 and at most 1"),
        (run, ["--top-k", "x"], "--top-k: 'x' is no whole number; choose 1 to "),
        (run, ["--seed", "-1"], "--seed: -1 is not possible; choose 0 to 9223372036854775807"),
        (run, ["--seed", str(2**63)], "--seed: 9223372036854775808 is not possible"),
        (run.parent, [], "s is not a run's folder"),
    ]:
        done = here("generate", str(folder), "the law ", *options)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert message in done.stderr


IN_ANOTHER_LOCALE = """
import sys
from sla_ablate.commands import main
sweep, run, prompt = sys.argv[1:]
for arguments in ["--help"], ["report", sweep], ["generate", run, prompt, "--max-new-tokens", "30"]:
    try:
        main(arguments)
    except SystemExit as end:
        assert end.code == 0
"""


@pytest.mark.slow
def test_another_locale_only_changes_what_the_terminal_shows(here, copy):
    sweep = copy / "runs/s"
    run, *_ = sweep.glob("sla-d1-*")
    prompt = "año, 日本 "
    expected = [
        here(*arguments).stdout
        for arguments in (["--help"], ["report", str(sweep)], ["generate", str(run), prompt, "--max-new-tokens", "30"])
    ]
    tables = {path: path.read_bytes() for path in (sweep / "report").glob("table.*")}
    assert len(tables) >= 2
    for path in tables:
        path.unlink()
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONIOENCODING", "LANG")}
    environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", IN_ANOTHER_LOCALE, sweep, run, prompt.encode()]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="ascii")
    assert done.returncode == 0, done.stderr
    assert all(not text.isascii() for text in expected)
    assert done.stdout == "".join(expected).encode("ascii", "replace").decode()
    assert {path: path.read_bytes() for path in tables} == tables


def test_a_prompt_that_is_no_text_is_told(here):
    done = here("generate", "run", os.fsdecode(b"a\xff"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "sla-ablate: the prompt 'a\\udcff' is not UTF-8\n"


def test_a_corpus_that_lies_elsewhere_now_is_told_by_data_path(copy, here, small_corpus, tmp_path, monkeypatch):
    """The runs' configurations name a path and a cache that are gone, as after a move to another machine."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for path in copy.glob("runs/s/*/config.yaml"):
        path.write_text(path.read_text().replace(str(small_corpus.parent), "/gone"))
    refused = here("verify", "runs/s", "--runs", "1")
    assert refused.returncode == 2
    assert "say where they are with data.path=…" in refused.stderr
    other = tmp_path / "other.jsonl"
    other.write_text(small_corpus.read_text().replace("law", "lay"))
    refused = here("verify", "runs/s", "--runs", "1", f"data.path={other}")
    assert refused.returncode == 2
    assert f"data.path={other} holds other data than" in refused.stderr
    assert here("analyze", "runs/s", "data.pat=x").returncode == 2
    moved = shutil.copy(small_corpus, tmp_path / "moved.jsonl")
    done = here("verify", "runs/s", "--runs", "1", f"data.path={moved}")
    assert done.returncode == 0, done.stderr
    assert "again, to the bit" in done.stdout
    failed = next(path for path in copy.glob("runs/s/*/record.json")).parent
    write_record(failed, {**read_record(failed), "state": "failed", "error": "no luck"})
    done = start(copy, "retry", "runs/s", f"data.path={moved}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 done" in done.stdout
    Path(moved).unlink()
    (copy / "runs/s").rename(copy / "runs/renamed")
    done = here("retry", "runs/renamed")  # which needs no corpus, for nothing is left to do
    assert done.returncode == 0, done.stderr
    assert "6 run(s), 6 already done" in done.stdout + done.stderr


@pytest.mark.parametrize("command", ["export", "generate"])
def test_a_pattern_of_the_shell_that_matches_two_runs_does_no_harm(copy, here, command):
    first, second = sorted(path for path in copy.glob("runs/*/*") if (path / "record.json").is_file())[:2]
    before = sorted(second.rglob("*"))
    done = here(command, str(first), str(second), *(["--force"] if command == "export" else []))
    assert done.returncode == 2
    assert "is the folder of a run" in done.stderr
    assert sorted(second.rglob("*")) == before


@pytest.mark.parametrize("redirected", ["| true", ">/dev/full 2>/dev/full", ">&- 2>&- <&-"])
def test_a_command_that_only_prints_ends_as_usual_though_nobody_reads_it(redirected, tmp_path):
    command = f'set -o pipefail; {{ sleep 0.1; "{sys.executable}" -m sla_ablate --help 2>err; }} {redirected}'
    assert subprocess.run(["bash", "-c", command], cwd=tmp_path).returncode == 0
    assert (tmp_path / "err").read_bytes() == b""


def test_help_imports_nothing_heavy():
    code = "import sys\nfrom sla_ablate.commands import main\ntry: main(['--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    help_, modules = done.stdout.rsplit("\n", 2)[:2]
    assert all(f"\n  {name}" in help_ for name in commands.names())
    heavy = {"torch", "lightning", "hydra", "omegaconf", "pandas", "scipy", "matplotlib", "pyarrow"}
    assert heavy & set(modules.split()) == set()


def test_completion_knows_commands_groups_and_keys(here, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv)

    def complete(line):
        monkeypatch.setenv("COMP_LINE", line)
        monkeypatch.setenv("COMP_POINT", str(len(line)))
        return here("-sc", "query=bash").stdout.split()

    assert complete("sla-ablate") == complete("sla-ablate ") == commands.names()
    assert complete("sla-ablate tr") == ["train"]
    assert complete("sla-ablate report run") == []
    assert "pattern.kv_layers=" in complete("sla-ablate patterns pattern.kv")
    assert "pattern=sla_far" in complete("sla-ablate train pattern=sla")
    assert complete("sla-ablate train -m optim.label") == ["optim.label_smoothing="]
    assert complete("sla-ablate train trainer.strategy=") == ["trainer.strategy=ddp", "trainer.strategy=fsdp"]
    assert complete("sla-ablate train -m pattern=cla,sla_n") == ["pattern=cla,sla_near"]
    launchers = ["basic", "local", "ray", "slurm", "slurm_local"]  # and none of Hydra's own
    assert complete("sla-ablate train hydra/launcher=") == [f"hydra/launcher={name}" for name in launchers]
    assert complete("sla-ablate figure j") == ["jsd"]
    assert complete("sla-ablate reproduce layer") == ["layer_count"]
    assert complete("sla-ablate report --pa") == ["--patterns"]
    assert "--shard" in complete("sla-ablate train --")


def test_help_comes_at_once():
    """That of no command imports what takes long."""
    program = f"""
import contextlib, io, sys
from sla_ablate import commands
for name in [*{commands.names()!r}, ""]:
    with contextlib.redirect_stdout(io.StringIO()) as told, contextlib.suppress(SystemExit):
        commands.main([*name.split(), "--help"])
    assert "usage: sla-ablate " + name in told.getvalue(), name
print(*{{"torch", "hydra", "lightning", "matplotlib", "pandas", "pyarrow", "scipy", "transformers"}} & {{*sys.modules}})
"""
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "\n"


@pytest.mark.parametrize("typed", ["optim.lr=1e40", "optim.lr=1,1E+40", "optim.steps=0010_000_000_000", "seed=-01"])
def test_a_number_is_told_as_it_was_typed(here, typed):
    key, _, values = typed.partition("=")
    assert f"{key}={values.split(',')[-1]} is not possible" in here("train", "-m", "scale=smoke", typed).stderr


def test_a_package_of_the_users_that_hides_ours_is_told(tmp_path):
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "__init__.py").touch()
    command = [sys.executable, "-m", "sla_ablate", "report", "runs/demo"]
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{tmp_path / 'analysis'} hides the package `analysis` of sla-ablate; rename it" in done.stderr
    assert "Traceback" not in done.stderr
