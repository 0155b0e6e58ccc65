"""Searching by Optuna: it proposes cells, and each goes the way of every other run.

The study itself is not stored. Proposals are a function of the sampler's seed and of the losses before, so a repeated
command proposes the same cells, finds them done in the ledger and is told their losses at once. (A run that failed
then and succeeds now changes what is proposed after it.)
"""

from __future__ import annotations

import math
from pathlib import Path

import optuna
from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna.trial import TrialState

from sla_ablate.config.compose import CONFIG_NAME
from sla_ablate.config.search_space import SearchSpace
from sla_ablate.errors import InputError
from sla_ablate.files import is_held
from sla_ablate.launch.launch import carry_out_all
from sla_ablate.launch.plan import Run, check_cell
from sla_ablate.runs.record import read_record
from sla_ablate.text.telling import tell


def tune(
    space: SearchSpace,
    hydra: DictConfig,
    config_dir: Path | None = None,
    config_name: str = CONFIG_NAME,
    command: str | None = None,
) -> int:
    """Look for the lowest validation loss, in nats per token, as `hydra.sweeper` says.

    Returns:
        The exit code: 0, 1 if some run failed, 130 after a signal to stop.

    Raises:
        InputError: runs do not fit on the disk, or a folder holds another run.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sweeper = hydra.hydra.sweeper
    study = optuna.create_study(sampler=instantiate(sweeper.sampler))
    runs: dict[int, Run] = {}
    codes = {0}
    while (ahead := sweeper.n_trials - len(study.trials)) > 0:
        trials = [study.ask(space.chosen) for _ in range(min(ahead, sweeper.n_jobs))]
        for trial in trials:
            try:
                runs[trial.number] = check_cell(space.cell(trial.params), hydra, config_dir, config_name)
            except InputError as error:  # of the inside of the space; its corners were checked
                tell(f"trial {trial.number}: {error}")
        proposed = {run.folder: run for trial in trials if (run := runs.get(trial.number))}
        if proposed:
            others = sweeper.n_trials - len(proposed)
            after = ahead - len(trials)
            codes.add(carry_out_all(list(proposed.values()), hydra, command, others - after, after))
        if 130 in codes:
            break
        if held := [run.folder for run in proposed.values() if is_held(run.folder)]:
            tell(f"{held[0]} is run by another process; repeat the command when it is done")
            return 1
        for trial in trials:
            loss = _loss(runs.get(trial.number))
            if loss is None:
                study.tell(trial, state=TrialState.FAIL)
            else:
                study.tell(trial, loss)
            told = "no result" if loss is None else f"{loss:.4f} nats/token"
            tell(f"trial {trial.number}: {told}, {_choice(trial.params)}")
    if study.get_trials(states=[TrialState.COMPLETE]):
        best = study.best_trial
        tell(f"best: trial {best.number}, {best.value:.4f} nats/token, {_choice(best.params)}")
        tell(str(runs[best.number].folder))
    return max(codes)


def _loss(run: Run | None) -> float | None:
    """Mean nats per token of the validation split, if there is a result and it is finite."""
    record = run and read_record(run.folder)
    if not record or record["state"] != "done":
        return None
    result = record["results"]["validation"]
    loss = float(sum(result["nll"]) / sum(result["tokens"]))
    return loss if math.isfinite(loss) else None


def _choice(params: dict[str, object]) -> str:
    return " ".join(f"{key}={value}" for key, value in params.items())
