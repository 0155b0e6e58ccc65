"""What a checkpoint has to be for a run to go on from it as if nothing had happened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sla_ablate.errors import InputError
from sla_ablate.model.gpt import GPT
from sla_ablate.runs.metrics import METRICS
from sla_ablate.training.callbacks.metrics import Metrics
from sla_ablate.training.callbacks.progress import Progress
from sla_ablate.training.callbacks.random_state import RandomState
from sla_ablate.training.callbacks.usage import Usage
from sla_ablate.training.callbacks.validation import Validation
from sla_ablate.training.module import decayed_and_not

_CALLBACKS = (RandomState, Usage, Metrics, Progress, Validation)


def check_state(path: Path, state: Mapping[str, Any], run: Path, run_id: str, model: GPT) -> None:
    """Make sure of the state that a checkpoint holds.

    Args:
        path: of the checkpoint, for messages.
        state: as Lightning saves it, with the id of its run.
        run: the folder of the run.
        run_id: of the run.
        model: its model.

    Raises:
        InputError: it is of another run or shape, or lacks a part, or the metrics are not those that it goes on from.
    """
    if state.get("run") != run_id:
        raise InputError(f"{path} is of the run {state.get('run')}")
    try:
        weights = {name.removeprefix("model."): weight.shape for name, weight in state["state_dict"].items()}
        if weights != {name: weight.shape for name, weight in model.state_dict().items()}:
            raise InputError(f"{path} is of a model of another shape")
        (optimizer,), (_,), _ = state["optimizer_states"], state["lr_schedulers"], state["loops"]
        moments = {index: moment["exp_avg"].shape for index, moment in optimizer["state"].items()}
        expected = dict(enumerate(weight.shape for group in decayed_and_not(model) for weight in group))
        if not moments or not moments.items() <= expected.items():
            raise InputError(f"{path} has the optimizer of another model, or an empty one")
        for callback in _CALLBACKS:
            _ = state["callbacks"][callback.__qualname__]
        metrics = state["callbacks"][Metrics.__qualname__]
        _ = metrics["bytes"], metrics["sha256"], int(state["global_step"])
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{path} lacks {error}") from None
    except ValueError as error:
        raise error if isinstance(error, InputError) else InputError(f"{path} lacks a part: {error}") from None
    Metrics.check(run / METRICS, metrics)
