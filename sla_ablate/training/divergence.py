"""Runs that diverged: a loss or a weight is no finite number any more."""

from __future__ import annotations

import math

from sla_ablate.model.gpt import GPT


class DivergedError(Exception):
    """Training cannot end in a model any more, and would not if it were repeated: every step follows from the seed.

    Args:
        what: is not finite.
        step: optimizer steps done when that was seen.
    """

    def __init__(self, what: str, step: int) -> None:
        super().__init__(f"{what} is not finite at step {step}")
        self.step = step


def check_loss(kind: str, loss: float, step: int) -> None:
    """Raise a DivergedError unless a loss is finite.

    Of several ranks all have to call it, with the same loss: an error that one alone raises would leave the others
    waiting for it.
    """
    if not math.isfinite(loss):
        raise DivergedError(f"the {kind} loss", step)


def check_weights(model: GPT, step: int) -> None:
    """Raise a DivergedError unless all weights are finite, those too that no validation token reads."""
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            raise DivergedError(f"the weight {name}", step)
