"""A model as it is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sla_ablate.model.transformer import Transformer


@contextmanager
def evaluating(model: Transformer) -> Iterator[None]:
    """Evaluation mode, in the precision of the weights; afterwards the model is as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.autocast(model.device.type, enabled=False):
            yield
    finally:
        for module, training in modes.items():
            module.training = training
