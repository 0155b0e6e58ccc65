from __future__ import annotations

import pytest

from sla_ablate.config import compose as module
from sla_ablate.config.compose import compose, compose_cell
from sla_ablate.errors import InputError


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=demo", "seed=0,1", "optim.lr=1e-3,2e-3", "data=sotu,sotu_bytes", "trainer.threads=2"],
        ["pattern=sla,cla", "scale=smoke", "pattern.heads=1,2", "++optim.betas=[0.8,0.9],[0.9,0.99]"],
        ["model=micro,nano", "pattern=sla", "optim.steps=${seed}", "seed=70,80", "hydra/launcher=local"],
    ],
)
def test_the_cells_of_a_multirun_are_those_that_hydra_composes(overrides, monkeypatch):
    ours = compose(overrides, multirun=True).configs
    assert len(ours) >= 4
    monkeypatch.setattr(module, "_cells", lambda compose, batch: [module._typed(compose(c)) for c in batch])
    assert ours == compose(overrides, multirun=True).configs


@pytest.mark.parametrize(
    ("override", "path"),
    [
        ("output=here", "{cwd}/here"),
        ("output='~/x'", "{home}/x"),
        ("output='~'", "{home}"),
        ("output=/x", "/x"),
        ("data.path=a/b.txt", "{cwd}/a/b.txt"),
        ("data.path='v[1]/*.jsonl'", "{cwd}/v[1]/*.jsonl"),
        ("data.path='~/a.txt'", "~/a.txt"),  # whoever is given the run has it there too
        ("data.path=null", None),
        ("data.cache=cache", "{cwd}/cache"),
        ("logger.tracking_uri=mlruns", "{cwd}/mlruns"),
        ("logger.tracking_uri='~/mlruns'", "{home}/mlruns"),
        ("logger.tracking_uri='sqlite:///my.db'", "sqlite:///{cwd}/my.db"),
        ("logger.tracking_uri='sqlite:////my.db'", "sqlite:////my.db"),
        ("logger.tracking_uri='http://host:5000'", "http://host:5000"),
        ("logger.tracking_uri=databricks", "databricks"),
    ],
)
def test_paths_are_absolute(override, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    expected = path and path.format(cwd=tmp_path, home="/home/me")
    for config in (compose([override]).configs[0], compose([override], True).configs[0], compose_cell([override])):
        found = config
        for name in override.split("=")[0].split("."):
            found = getattr(found, name)
        assert found == expected
    if override.startswith("output"):
        assert compose([override]).hydra.hydra.sweep.dir == f"{expected}/default"


def test_a_home_of_nobody_is_told():
    for key in ("output", "data.path", "data.cache"):
        with pytest.raises(InputError, match="'~nobody-at-all/x' names the home of nobody"):
            compose([f"{key}='~nobody-at-all/x'"])


def test_several_loggers_keep_the_options_of_each():
    logger = compose(["logger=[csv,wandb,mlflow]", "logger.tags=[a,b]", "logger.mode=offline"]).configs[0].logger
    assert (logger.names, logger.tags, logger.mode) == (["csv", "wandb", "mlflow"], ["a", "b"], "offline")
    configs = compose(["logger=[wandb,csv]", "seed=0,1"], True).configs
    assert [config.logger.names for config in configs] == [["wandb", "csv"]] * 2
    assert compose(["logger=none"]).configs[0].logger.names == []
