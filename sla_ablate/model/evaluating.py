"""A model as it is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from sla_ablate.model.transformer import GPT


@contextmanager
def evaluating(model: GPT) -> Iterator[None]:
    """Evaluation mode, in the precision of the weights; afterwards the model is as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.autocast(model.wte.weight.device.type, enabled=False):
            yield
    finally:
        for module, training in modes.items():
            module.training = training
