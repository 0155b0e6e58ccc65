"""Searches by Optuna, with runs that take no time (tests/stub)."""

from __future__ import annotations

import math

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from sla_ablate.config.compose import _parse, compose
from sla_ablate.config.search_space import SearchSpace
from sla_ablate.errors import InputError
from sla_ablate.runs.sweep import read_sweep

OPTUNA = ["hydra/sweeper=optuna", "optim.lr=tag(log,interval(1e-3,1e-1))"]
LOSS = "import math; c = record['config']; done(2 * (record['seed'] + abs(math.log10(c['optim']['lr']) + 2)))"


def loss(pattern, seed, lr):
    return int(seed) + abs(math.log10(lr) + 2)


def proposed_by_optuna(trials, failing=()):
    """What Optuna itself proposes for `OPTUNA` on the stub's sweep, and its study."""
    space = {
        "pattern": CategoricalDistribution(["baseline", "sla_near"]),
        "seed": CategoricalDistribution(["0", "1"]),
        "optim.lr": FloatDistribution(1e-3, 1e-1, log=True),
    }
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    for number in range(trials):
        trial = study.ask(space)
        if number in failing:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, loss(*trial.params.values()))
    return {(t.params["pattern"], int(t.params["seed"]), t.params["optim.lr"]) for t in study.trials}, study


def carried_out(tmp_path):
    records = read_sweep(tmp_path / "runs" / "s").records
    names = {"baseline": "baseline", "sla": "sla_near"}
    return {(names[r["pattern"]["name"]], r["seed"], r["config"]["optim"]["lr"]): r for r in records}


def test_a_later_override_replaces_what_was_to_be_searched_and_the_reverse():
    space = SearchSpace.of(_parse(["a=1,2", "b=range(1,6)", "c=7", "b=3", "c=8,9"]))
    assert (space.fixed, list(space.chosen)) == (["b=3"], ["a", "c"])


@pytest.mark.slow
def test_a_search_is_optunas_and_a_repeated_one_goes_on_from_the_ledger(sla, tmp_path):
    code, output = sla("train", *OPTUNA, "hydra.sweeper.n_trials=11", code=LOSS)
    assert code == 0, output
    expected, _ = proposed_by_optuna(11)
    assert set(carried_out(tmp_path)) == expected

    # Past the random start, in which the sampler looks at no loss.
    code, output = sla("train", *OPTUNA, "hydra.sweeper.n_trials=14", "hydra/launcher=local", code=LOSS)
    assert code == 0, output
    expected, study = proposed_by_optuna(14)
    records = carried_out(tmp_path)
    assert set(records) == expected
    assert {record["attempt"] for record in records.values()} == {1}
    best = study.best_trial
    pattern, seed, lr = best.params.values()
    line, folder = output.splitlines()[-2:]
    assert (
        line == f"best: trial {best.number}, {best.value:.4f} nats/token, pattern={pattern} seed={seed} optim.lr={lr}"
    )
    assert folder == str(tmp_path / "runs" / "s" / records[pattern, int(seed), lr]["run_id"])


def test_a_failed_trial_is_told_and_tried_again(sla, tmp_path):
    once = f"'third' if record['config']['optim']['lr'] != {{}} or record['attempt'] > 1 else 1 / 0\n{LOSS}"
    _, study = proposed_by_optuna(3)
    third = once.format(study.trials[2].params["optim.lr"])
    code, output = sla("train", *OPTUNA, "hydra.sweeper.n_trials=4", code=third)
    assert code == 1, output
    assert "trial 2: no result, pattern=" in output
    assert set(carried_out(tmp_path)) == proposed_by_optuna(4, failing=[2])[0]
    code, output = sla("train", *OPTUNA, "hydra.sweeper.n_trials=4", code=third)
    assert code == 0, output
    assert sorted(sla.states()) == [("done", 1)] * 3 + [("done", 2)]


def test_trials_proposed_together_run_together_until_a_signal(sla, tmp_path):
    saving = (
        "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(75))\n(folder / 'up').touch()\n"
        "while True: time.sleep(0.05)"
    )
    options = ["hydra.sweeper.n_trials=4", "hydra.sweeper.n_jobs=2", "hydra/launcher=local", "hydra.launcher.n_jobs=2"]
    process = sla.start("train", *OPTUNA, *options, code=saving)
    output = sla.interrupt(process, when_up=2)
    assert process.returncode == 130, output
    assert [state for state, _ in sla.states()] == ["interrupted"] * 2
    assert "nats/token" not in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optim.lr=tag(log,interval(0,1))"], "cannot be searched: "),
        (["optim.lr=glob(*)"], "'optim.lr=glob(*)' cannot be searched: "),
        (["optim.steps=range(1,1000000000000)"], "cannot be searched: it has more than 100,000 values"),
        (["optim.lr=interval(1e-3,inf)"], "optim.lr=inf is not possible"),
        (["model.n_head=range(1,9)", "model.n_embd=12"], "n_embd=12 is not a multiple of n_head=8"),
        (["optim.lrr=interval(1,2)"], "did you mean 'optim.lr'"),
        ([OPTUNA[1], "hydra.sweeper.n_jobs=0"], "hydra.sweeper.n_jobs=0 is not possible; choose 1 to 1024"),
        (["--list"], "hydra/sweeper=optuna chooses them later"),
        (["--shard", "1/2"], "hydra/sweeper=optuna chooses them later"),
    ],
)
def test_an_impossible_search_is_refused_before_it_starts(here, sla, tmp_path, arguments, message):
    done = here("train", *sla.overrides, "hydra/sweeper=optuna", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_search_needs_a_space():
    with pytest.raises(InputError, match="has nothing to choose"):
        compose(["hydra/sweeper=optuna", "seed=1"], multirun=True)


def test_an_impossible_cell_inside_the_space_is_a_trial_without_a_result(sla, tmp_path):
    width = ["model.n_embd=range(8,13)", "model.n_head=4", "hydra.sweeper.n_trials=6"]  # 8 and 12 are possible
    code, output = sla("train", "hydra/sweeper=optuna", *width)
    assert code == 0, output
    impossible = output.count("is not a multiple of n_head=4")
    assert impossible == output.count("no result") > 0
    assert {record["config"]["model"]["n_embd"] for record in carried_out(tmp_path).values()} <= {8, 12}


def test_hydras_sweeps_are_optunas_distributions():
    texts = [
        "seed=3", "pattern=sla,cla", "pattern.distance=range(1,6)", "pattern.heads=range(8,0,-4)",
        "optim.lr=interval(1e-3,1e-2)", "model.n_embd=tag(log,int(interval(8,64)))",
        "optim.betas=choice([0.9,0.95],[0.8,0.9])",
    ]  # fmt: skip
    space = SearchSpace.of(_parse(texts))
    assert space.chosen == {
        "pattern": CategoricalDistribution(["sla", "cla"]),
        "pattern.distance": IntDistribution(1, 5),
        "pattern.heads": IntDistribution(4, 8, step=4),
        "optim.lr": FloatDistribution(1e-3, 1e-2),
        "model.n_embd": IntDistribution(8, 64, log=True),
        "optim.betas": CategoricalDistribution(["[0.9,0.95]", "[0.8,0.9]"]),
    }
    corners = space.corners()
    assert len(corners) == 2**6
    assert {corner[0] for corner in corners} == {"seed=3"}
    assert {corner[2] for corner in corners} == {"pattern.distance=1", "pattern.distance=5"}


def test_the_example_searches_patterns_and_optimisation():
    full, corners, space = compose(["experiment=tune"])
    assert space.chosen.keys() == {"pattern.distance", "optim.lr"}
    assert len(corners) == 4
    for corner in corners:
        corner.check()
    assert full.hydra.sweeper.n_trials == 20
