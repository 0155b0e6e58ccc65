"""What users have outside of this repository: the README's package, made in a folder of its own, and mistakes in it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sla_ablate import GPT, GPTConfig, SkipPattern
from sla_ablate.commands import main
from sla_ablate.config.compose import compose, compose_cell
from sla_ablate.config.schema import ModelConfig, PatternConfig, RunConfig
from sla_ablate.data.config import DataConfig
from sla_ablate.data.shards import prepare
from sla_ablate.errors import InputError, named
from sla_ablate.runs.identity import identify
from sla_ablate.runs.sweep import read_sweep

SECTION = re.search(
    r"\n## Your own pattern.*?(?=\n## )", (Path(__file__).parents[1] / "README.md").read_text(), re.DOTALL
)[0]
FILES = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", SECTION, re.DOTALL))
(COMMANDS,) = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
ZIGZAG = "my_package.patterns:zigzag"


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """An empty working folder but for the README's files and a corpus; nothing of it stays imported."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "notes").mkdir()
    for name in "abcd":
        paragraphs = [" ".join(f"{name}{i}{j}" for j in range(30)) for i in range(20)]
        (tmp_path / "notes" / f"{name}.md").write_text("\n\n".join(paragraphs))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


def sla(*arguments: str) -> int:
    """`sla-ablate` in this process."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


def refused(capsys, *arguments: str) -> str:
    """The one line with which a command refuses."""
    capsys.readouterr()
    assert sla(*arguments) == 2
    told = capsys.readouterr()
    assert told.err.count("\n") == 1, told.err
    return told.err


def test_the_examples_are_short():
    assert set(FILES) == {
        *(f"my_package/{name}.py" for name in ("patterns", "readers", "metrics", "figures")),
        "my_conf/pattern/zigzag.yaml",
    }
    assert all(text.count("\n") < 30 for text in FILES.values())


def test_the_readme_as_written(outside, capsys):
    patterns, train, analyze, figure = COMMANDS.replace("\\\n", "").splitlines()
    # The console script, which does not have the working folder on its path.
    script = [str(Path(sys.executable).with_name("sla-ablate")), *shlex.split(train)[1:]]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    trained = subprocess.run(script, capture_output=True, text=True, env=environment)
    assert trained.returncode == 0, trained.stdout + trained.stderr

    baseline, zigzag = sorted(
        read_sweep(outside / "runs" / "mine").records, key=lambda record: record["pattern"]["label"]
    )
    assert baseline["pairing"] == zigzag["pairing"]
    assert zigzag["pattern"]["label"] == "zigzag, distance 2, period 3"
    assert zigzag["run_id"].startswith("zigzag-distance2-period3-s0-")
    # Three layers of two heads: in the last one, (2 + head) % 3 is 0 for head 1.
    assert zigzag["pattern"]["key_source"] == zigzag["pattern"]["value_source"] == [[0, 0], [1, 1], [2, 0]]
    documents = zigzag["results"]["validation"]["documents"]
    assert documents and set(documents) <= {f"{name}.md-{number}" for name in "abcd" for number in range(20)}

    for line in (patterns, analyze, figure):
        assert sla(*shlex.split(line)[1:]) == 0, line
    assert "zigzag, distance 2, period 3: 6 layers × 4 heads" in capsys.readouterr().out
    heads = pd.read_parquet("runs/mine/analysis/heads.parquet")
    of_heads = heads[(heads["metric"] == "self_attention") & heads["head"].notna() & heads["position"].isna()]
    assert len(of_heads) == 2 * 3 * 2
    assert {path.name for path in (outside / "runs/mine/figures").iterdir()} == {
        f"self_attention.{suffix}" for suffix in ("svg", "pdf", "png", "txt")
    }

    told = refused(capsys, "figure", "my_package.readers:paragraphs", "runs/mine")
    assert "'my_package.readers:paragraphs' gave no matplotlib Figure" in told

    assert sla(*shlex.split(analyze)[1:]) == 0
    assert "2 already analyzed" in capsys.readouterr().out
    with (outside / "my_package/metrics.py").open("a") as file:
        file.write("# changed\n")
    from analysis.analyze import Effort, _is_current

    effort = Effort(8192, 256, metrics=["my_package.metrics:SelfAttention"])
    runs = {outside / "runs/mine" / record["run_id"]: record for record in (baseline, zigzag)}
    assert not any(_is_current(run, record, effort) for run, record in runs.items())


def test_a_metric_of_ones_own_is_measured_as_ours_are(outside):
    from analysis.diversity.head_diversity import measure_heads

    model = GPT(GPTConfig(n_layer=2, n_head=2, n_embd=8, block_size=12, vocab_size=5), SkipPattern.baseline(2, 2))
    model.init_weights(0)
    for name, parameter in model.named_parameters():
        if "c_attn" in name:
            torch.nn.init.zeros_(parameter)  # all attention is uniform
    metric = named("", "my_package.metrics:SelfAttention")
    measured = measure_heads(model, torch.arange(12)[None] % 5, n_min=3, more=[metric])
    np.testing.assert_allclose(measured["self_attention"], np.mean([1 / n for n in range(3, 13)]), rtol=1e-6)
    with pytest.raises(InputError, match="SelfAttention measures 'self_attention', as another metric does"):
        measure_heads(model, torch.arange(12)[None] % 5, more=[metric, metric], n_min=3)


def test_options_as_overrides_in_a_multirun_and_as_keys(outside):
    def labels(*overrides, **options):
        return [config.pattern_label() for config in compose([f"pattern.name={ZIGZAG}", *overrides], **options).configs]

    assert labels() == ["zigzag"]
    assert labels("pattern.options={period: 3}") == labels("pattern.options.period=3") == ["zigzag, period 3"]
    assert labels("+pattern.options.period=2", "pattern.distance=1") == ["zigzag"]  # the defaults
    both = ["zigzag, period 3", "zigzag, period 4"]
    assert labels("pattern.options.period=3,4", multirun=True) == both
    assert labels("pattern.options={period: 3},{period: 4}", multirun=True) == both
    cell = compose_cell(["pattern=zigzag", "++pattern.options.period=5"], Path("my_conf"))
    assert (cell.pattern_label(), cell.pattern_slug()) == (
        "zigzag, distance 2, period 5",
        "zigzag-distance2-period5",
    )


def test_ours_ignore_options_and_a_slug_is_a_folders_name(outside):
    (outside / "my_package/patterns.py").write_text(
        "from sla_ablate import SkipPattern\n\n\n"
        "def odd_one(n_layer, n_head, *, where, share='both'):\n"
        "    return SkipPattern.baseline(n_layer, n_head)\n"
    )
    where = {"where": "../a b/ü", "share": "keys"}
    mine = RunConfig(pattern=PatternConfig("my_package.patterns:odd_one", share="keys", options={"where": "../a b/ü"}))
    assert mine.pattern_label() == "odd one, where ../a b/ü, keys only"
    assert mine.pattern_slug() == "odd_one-where..-a-b--keys"
    assert RunConfig(pattern=PatternConfig(options=where)).pattern_label() == "baseline"
    with pytest.raises(InputError, match=r"odd_one needs 'where'; give it as pattern.options=\{where: …\}$"):
        RunConfig(pattern=PatternConfig("my_package.patterns:odd_one")).check()


def test_a_run_is_identified_by_the_tables_that_a_function_gives(outside):
    mine = RunConfig(ModelConfig(n_layer=3), PatternConfig(ZIGZAG, options={"period": 1}))
    ours = RunConfig(ModelConfig(n_layer=3), PatternConfig("sla", distance=1, heads=4))
    assert mine.skip_pattern() == ours.skip_pattern()
    digests = [identify(config, "data").run_id.rpartition("-")[2] for config in (mine, ours)]
    assert digests[0] == digests[1]


def test_a_run_does_not_train_other_tables_than_it_was_entered_with(outside):
    from sla_ablate.launch.plan import plan
    from sla_ablate.processes.signals import Interruption
    from sla_ablate.runs import ledger
    from sla_ablate.text.telling import Silence
    from sla_ablate.training.attempt import attempt

    overrides = ["scale=smoke", f"pattern.name={ZIGZAG}", "data.path=notes/*.md", "data.tokenizer=bytes"]
    (run,) = plan([*overrides, "data.reader=my_package.readers:paragraphs"]).runs
    ledger.enter(run.config, run.data_digest)
    named("", "my_package.patterns:zigzag").__defaults__ = (1, 1)
    with pytest.raises(InputError, match="zigzag gives other tables than when the run was entered"):
        attempt(run.folder, Interruption(), Silence(""))


def test_a_reader_reads_every_file_and_its_source_is_part_of_the_folders_name(outside):
    def prepared(**options):
        config = DataConfig(path="notes", tokenizer="bytes", cache="cache", **options)
        return prepare(config, log=lambda line: None)

    (outside / "notes" / "odd.suffix").write_text("one\n\n\n\ntwo")
    shards = prepared(reader="my_package.readers:paragraphs")
    ids = pd.concat([shards.documents(split) for split in ("train", "validation")])["id"]
    assert sorted(ids) == sorted(
        [f"{name}.md-{number}" for name in "abcd" for number in range(20)] + ["odd.suffix-0", "odd.suffix-2"]
    )
    with (outside / "my_package/readers.py").open("a") as file:
        file.write("# changed\n")
    again = prepared(reader="my_package.readers:paragraphs")
    assert again.folder != shards.folder
    assert again.digest == shards.digest
    with pytest.raises(InputError, match="'notes' holds no supported file"):
        prepared()


def test_groups_of_ones_own_stand_beside_ours(outside, capsys):
    experiment = outside / "my_conf/experiment/mine.yaml"
    experiment.parent.mkdir()
    experiment.write_text(
        "# @package _global_\nsweep: mine\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n"
        "      pattern: baseline,zigzag\n      pattern.options.period: 3,4\n"
    )
    (outside / "my_conf/model").mkdir()
    (outside / "my_conf/model/tiny.yaml").write_text("n_layer: 3\nn_head: 2\n")
    (outside / "my_conf/model/nano.yaml").write_text("n_layer: 1\n")  # ours is taken

    configs = compose(["experiment=mine", "model=tiny"], config_dir=Path("my_conf")).configs
    assert [config.pattern_label() for config in configs] == [
        "baseline", "baseline", "zigzag, distance 2, period 3", "zigzag, distance 2, period 4",
    ]  # fmt: skip
    assert {(config.sweep, config.model.n_layer) for config in configs} == {("mine", 3)}
    nano = [compose(["model=nano"], config_dir=folder).configs for folder in (None, outside / "my_conf")]
    assert nano[0] == nano[1]

    assert sla("train", "--config-dir", "my_conf", "--help") == 0
    told = capsys.readouterr().out
    assert "experiment: demo, mine, tune\n" in told
    assert "model: gpt2, micro, nano, tiny\n" in told
    assert sla("patterns", "--config-dir=my_conf", "model=tiny") == 0
    assert re.search(r"^zigzag .* zigzag, distance 2, period 3$", capsys.readouterr().out, re.MULTILINE)


def test_completion_offers_groups_of_ones_own(outside, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sla-ablate"])
    monkeypatch.setenv("COMP_LINE", "sla-ablate train --config-dir my_conf pattern=z")
    assert sla("-sc", "query=bash") == 0
    assert capsys.readouterr().out.split() == ["pattern=zigzag"]


BROKEN = {
    "my_package/broken.py": "import my_package.missing\n",
    "my_package/failing.py": "1 / 0\n",
    "my_package/wrong.py": (
        "def scalar(n_layer, n_head):\n    return 1\n\n\n"
        "def baseline(n_layer, n_head): ...\n\n\n"
        "def pair(path):\n    yield 'id', 1\n\n\n"
        "def same(path):\n    yield 'id', 'text'\n\n\n"
        "def none(path): ...\n\n\n"
        "def raising(path):\n    yield 'id', 'text'\n    yield 'other', 1 / 0\n"
    ),
    "my_conf/pattern/typo.yaml": "nme: sla\n",
    "my_conf/pattern/unreadable.yaml": "name: [\n",
    "my_conf/weather/sunny.yaml": "sky: blue\n",
}
PREPARE = ("prepare", "data.path=notes/*.md", "data.cache=cache")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("patterns", "pattern.name=zigzag"), "pattern.name 'zigzag' is unknown; choose from .*my_package.module:name"),
        (("patterns", "pattern.name=:zigzag"), "':zigzag' names nothing in a module; write my_package.module:name"),
        (
            ("patterns", "pattern.name=yours:zigzag"),
            "there is no module 'yours'; it has to be installed, on PYTHONPATH",
        ),
        (("patterns", "pattern.name=my_package.pattern:zigzag"), "there is no module 'my_package.pattern';"),
        (
            ("patterns", "pattern.name=my_package.patterns:zagzig"),
            "'zagzig' is unknown; choose from SkipPattern, zigzag; did you mean 'zigzag'",
        ),
        (
            ("patterns", "pattern.name=my_package.broken:x"),
            "importing my_package.broken raises ModuleNotFoundError: No module named 'my_package.missing'$",
        ),
        (("patterns", "pattern.name=my_package.failing:x"), "raises ZeroDivisionError: division by zero$"),
        (("patterns", "pattern.name=my_package.patterns:SkipPattern"), "is no function of n_layer and n_head"),
        (("patterns", "pattern.name=my_package.wrong:scalar"), "gave no SkipPattern of 6 layers × 4 heads"),
        (("patterns", "pattern.name=my_package.wrong:baseline"), "is called like a pattern of ours"),
        (
            ("patterns", f"pattern.name={ZIGZAG}", "pattern.options={perid: 2}"),
            "argument of my_package.patterns:zigzag 'perid' is unknown; choose from period; did you mean 'period'",
        ),
        (
            ("train", "pattern.options.period=1,2"),
            "sla-ablate: 'pattern.options.period=1,2' has several values; add -m",
        ),
        (("train", "patern.options.period=1"), "option 'patern.options.period' is unknown"),
        (("train", "pattern.optoins.period=1"), "did you mean 'pattern.options'"),
        (("train", "--config-dir", "conf"), "--config-dir: 'conf' is no folder"),
        (("prepare", "--config-dir", "conf"), "--config-dir: 'conf' is no folder"),
        (("patterns", "--config-dir=my_conf/pattern/typo.yaml"), "'my_conf/pattern/typo.yaml' is no folder"),
        (("train", "--config-dir", "my_conf", "pattern=zigzg"), "pattern 'zigzg' is unknown; .*did you mean 'zigzag'"),
        (("train", "--config-dir", "my_conf", "pattern=typo"), "Key 'nme' not in 'PatternConfig'"),
        (("train", "--config-dir", "my_conf", "pattern=unreadable"), r"my_conf/pattern/unreadable.yaml\", line 2"),
        (("train", "--config-dir", "my_conf", "+weather=sunny"), "Key 'weather' not in 'RunConfig'"),
        ((*PREPARE, "data.reader=my_package.readers:paragraph"), "did you mean 'paragraphs'"),
        ((*PREPARE, "data.reader=my_package:__path__"), "'my_package:__path__' is no function"),
        ((*PREPARE, "data.reader=my_package.wrong:pair"), r"a.md:1: data.reader gave \('id', 1\); it must give a pair"),
        (
            (*PREPARE, "data.reader=my_package.wrong:raising"),
            r"a.md: data.reader raises after 1 row\(s\) ZeroDivisionError: division by zero \(wrong.py, line \d+\)$",
        ),
        ((*PREPARE, "data.reader=my_package.wrong:none"), "a.md: data.reader returned a NoneType; it must give pairs"),
        (
            (*PREPARE, "data.reader=my_package.wrong:same"),
            r"id 'id' occurs again in .*b.md; .*data.reader \('my_package.wrong:same'\) must give others",
        ),
        (("prepare", "data.reader=my_package.readers:paragraphs"), "data.reader reads the files of data.path"),
        ((*PREPARE[:1], "data.path=none/*", "data.reader=my_package.readers:paragraphs"), r"/none/\*' holds no file"),
        (("analyze", "sweep", "--metric", "my_package.metrics"), "--metric 'my_package.metrics' names nothing"),
        (("analyze", "sweep", "--metric", "my_package.metrics:TileMetric"), "is no metric; write a subclass of"),
        (("figure", "my_package.figures", "sweep"), "figure 'my_package.figures' is unknown; .*my_package.module:name"),
    ],
)
def test_mistakes_are_told_in_one_line(outside, capsys, arguments, message):
    for name, text in BROKEN.items():
        (outside / name).parent.mkdir(exist_ok=True)
        (outside / name).write_text(text)
    assert re.search(message, refused(capsys, *arguments).strip())
