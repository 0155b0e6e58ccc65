"""Hydra's own options and its syntax of sweeps, compared with what Hydra itself makes of them."""

from __future__ import annotations

import logging
from importlib.metadata import version
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import sla_ablate
from sla_ablate.config import compose as ours
from sla_ablate.launch import plan as plan_module
from sla_ablate.launch.plan import plan

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def mine(tmp_path):
    """Two folders of a user's: a primary configuration, and groups that it or a command line finds."""
    for name, text in {
        "mine/mine.yaml": "defaults: [config, override pattern: far, override hydra/launcher: local, _self_]\n"
        "hydra: {searchpath: [more]}\nseed: 7\n",
        "mine/lost.yaml": "defaults: [config]\nhydra: {searchpath: [nowhere]}\n",
        "more/pattern/far.yaml": "name: sla\ndistance: 2\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return ["--config-dir", "mine", "--config-name", "mine"]


@pytest.fixture
def root_logger():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


def test_versions(here):
    assert here("--version").stdout == f"sla-ablate {sla_ablate.__version__}\n"
    for command in ("train", "prepare", "patterns", "retry"):
        done = here(command, "--version")
        assert (done.returncode, done.stdout) == (
            0, f"sla-ablate {sla_ablate.__version__}, Hydra {version('hydra-core')}\n",
        )  # fmt: skip


def test_cfg_prints_what_hydra_composes(here, tmp_path):
    overrides = ["experiment=demo", "scale=smoke", "optim.steps=${optim.warmup_steps}", "hydra.job.name=x"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        job = compose("config", overrides)
        hydra = compose("config", overrides, return_hydra_config=True).hydra
    shown = here("train", *overrides, "--cfg", "job")
    assert (shown.returncode, shown.stdout) == (0, OmegaConf.to_yaml(job))
    assert here("train", "--cfg", "job", "--resolve", *overrides).stdout == OmegaConf.to_yaml(job, resolve=True)
    assert here("train", "-c", "job", "-p", "optim.steps", "--resolve", *overrides).stdout == "2\n"
    optim = here("train", "-c", "job", "-p", "optim", *overrides).stdout
    assert optim == f"# @package optim\n{OmegaConf.to_yaml(job.optim)}"

    text = here("train", "--cfg", "hydra", *overrides).stdout
    parts = OmegaConf.create(text).hydra
    for part in ("sweeper", "sweep", "run", "launcher"):
        assert parts[part] == hydra[part]
    assert "hydra_help" not in parts
    resolved = OmegaConf.create(here("train", "--cfg", "hydra", "--resolve", *overrides).stdout)
    assert resolved.hydra.sweep.dir == "runs/demo"
    assert set(OmegaConf.create(here("train", "--cfg", "all", *overrides).stdout)) == {"hydra", *job}
    assert list(tmp_path.iterdir()) == []


def test_info_tells_where_a_configuration_comes_from(here, mine, root_logger):
    path = here("train", *mine, "--info", "searchpath").stdout
    assert [line.split("|")[1].strip() for line in path.splitlines() if "://" in line] == [
        "hydra", "main", "command-line", "hydra.searchpath in main", "schema",
    ]  # fmt: skip
    assert "pattern: far" in here("train", *mine, "--info", "defaults-tree").stdout
    assert f"Hydra {version('hydra-core')}" in here("train", "-i", "all").stdout


def test_a_primary_configuration_of_ones_own(here, mine, monkeypatch):
    shown = OmegaConf.create(here("train", *mine, "--cfg", "all").stdout)
    assert (shown.seed, shown.pattern.distance) == (7, 2)
    assert "joblib" in shown.hydra.launcher._target_
    assert here("patterns", *mine, "pattern=glob(fa*)").stdout.startswith("SLA, distance 2, 3 of 4 heads:")
    assert "pattern: baseline, cla, far, " in here("train", *mine, "--help").stdout

    monkeypatch.setattr(plan_module, "_checked", lambda configs, hydra, data_of_each: [])
    composed = ours.compose(["seed=1,2"], True, Path("mine"), "mine").configs
    assert [(config.seed, config.pattern.distance) for config in composed] == [(1, 2), (2, 2)]
    assert plan(["seed=1,2"], True, Path("mine"), "mine").asked == 2


def test_a_search_path_of_ones_own(here, mine):
    for path in ("hydra.searchpath=[more]", "hydra.searchpath=[file://more]"):
        assert here("patterns", path, "pattern=far").stdout.startswith("SLA, distance 2, 3 of 4 heads:")
    rows = here("patterns", "hydra.searchpath=[more]").stdout
    assert "\nfar " in rows
    configs = ours.compose(["hydra.searchpath=[more]", "pattern=baseline,far", "seed=1,2"], True).configs
    assert [config.pattern.name for config in configs] == ["baseline", "baseline", "sla", "sla"]


def test_sweeps_are_hydras(here):
    sweeps = {
        "pattern=glob(sla*)": "sla,sla_count,sla_far,sla_near",
        "pattern=glob([sla*,cla],exclude=*_*)": "cla,sla",
        "pattern=sort(yoco,cla)": "cla,yoco",
        "pattern=tag(a,choice(cla,yoco))": "cla,yoco",
        "seed=range(1,6,2)": "1,3,5",
        "seed=range(3)": "0,1,2",
        "optim.lr=range(0.125,0.5,0.125)": "0.125,0.25,0.375",
    }
    for sweep, values in sweeps.items():
        key = sweep.split("=")[0]
        expected = ours.compose([f"{key}={values}"], multirun=True).configs
        assert ours.compose([sweep], multirun=True).configs == expected, sweep
    shuffled = ours.compose(["seed=shuffle(range(0,5))"], multirun=True).configs
    assert sorted(config.seed for config in shuffled) == [0, 1, 2, 3, 4]
    titles = here("patterns", "pattern=glob(*zza)").stdout
    assert titles.startswith("pizza, 3 KV layers:")


def test_a_search_takes_globs_as_categories():
    space = ours.compose(["hydra/sweeper=optuna", "pattern=glob(sla_*)"], multirun=True).space
    assert list(space.chosen["pattern"].choices) == ["sla_count", "sla_far", "sla_near"]


def test_an_option_that_one_pattern_of_a_sweep_uses_is_no_mistake(here):
    done = here("patterns", "pattern=baseline,sla", "pattern.distance=1,3")
    assert [line for line in done.stdout.splitlines() if line.endswith("6 layers × 4 heads")] == [
        "baseline: 6 layers × 4 heads",
        "SLA, distance 1, 3 of 4 heads: 6 layers × 4 heads",
        "SLA, distance 3, 3 of 4 heads: 6 layers × 4 heads",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "pattern=glob(zz*)"], "'pattern=glob(zz*)' has no values, so there would be no runs"),
        (["-m", "optim.lr=glob(*)"], "'optim.lr=glob(*)' has no values"),
        (["-m", "seed=range(5,5)"], "'seed=range(5,5)' has no values"),
        (["-m", "seed=range(0,1,0)"], "'seed=range(0,1,0)' is no sweep: "),
        (["-m", "seed=range(0,1000000000000)"], "more than 100,000 runs are asked for"),
        (["-m", "seed=range(0,1000)", "optim.steps=range(1,1000)"], "at least 999,000; sweep over fewer values"),
        (["-m", "optim.lr=interval(0,1)"], "has no end of values; write a,b,c or range(…), or choose hydra/sweeper="),
        (["-m", "pattern=interval(0,1)"], "'pattern=interval(0,1)' is no choice of names; write a,b,c or glob(…)"),
        (["-m", "pattern=range(0,2)"], "pattern '0' is unknown; choose from baseline"),
        (["-m", "hydra/launcher=local,basic"], "'hydra/launcher=local,basic' has several values; choose one"),
        (["-m", "hydra.launcher.n_jobs=1,2", "hydra/launcher=local"], "'hydra.launcher.n_jobs=1,2' has several values"),
        (["hydra/sweeper=basic,optuna"], "'hydra/sweeper=basic,optuna' has several values"),
        ([f"seed={'[' * 3000}"], "is no override; write GROUP=NAME or KEY=VALUE"),
        (["pattern=cla", "pattern.distance=3"], "pattern.distance is of no use to pattern cla; options are group_size"),
        (["-m", "pattern=cla,baseline", "pattern.heads=1,2"], "pattern.heads is of no use to pattern baseline, cla; "),
        (["experiment=tune", "pattern=cla"], "pattern.distance is of no use to pattern cla"),
        (["--config-name", "mime"], "--config-name 'mime' is unknown; choose from config"),
        (["--config-dir", "mine", "--config-name", "mime"], "from config, lost, mine; did you mean 'mine'"),
        (["--config-dir", "mine", "--config-name", "lost"], "hydra.searchpath: 'nowhere' does not exist"),
        (["hydra.searchpath=[nowhere]"], "hydra.searchpath: 'nowhere' does not exist; give folders"),
        (["hydra.searchpath=more"], "hydra.searchpath must be a list of strings. Got: more"),
        (["--cfg", "jobs"], "argument -c/--cfg: invalid choice: 'jobs'"),
        (["--cfg", "job", "seed=1,2"], "'seed=1,2' has several values; choose one, to have one run shown"),
        (["--cfg", "job", "--package", "optin"], "--package 'optin' is unknown; "),
        (["--cfg", "job", "optim.lrr=1"], "option 'optim.lrr' is unknown"),
        (["--cfg", "job", "-m"], "only one of -m, --cfg and --info is possible"),
        (["--resolve"], "--resolve and --package are of use with --cfg only"),
        (["--info", "every"], "argument -i/--info: invalid choice: 'every'"),
    ],
)
def test_what_hydra_has_no_meaning_for_is_one_line(here, tmp_path, mine, recwarn, arguments, message):
    before = sorted(tmp_path.iterdir())
    done = here("train", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert message in done.stderr
    assert sorted(tmp_path.iterdir()) == before
    assert not recwarn.list
