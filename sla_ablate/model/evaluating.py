"""The mode in which a model is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from sla_ablate.model.transformer import Transformer


@contextmanager
def evaluating(model: Transformer) -> Iterator[None]:
    """Have a model in evaluation mode and compute in the precision of its weights; afterwards it is as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with ExitStack() as settings:
        settings.enter_context(torch.autocast(model.device.type, enabled=False))
        if model.is_compiled:  # lest each length of a window be a compilation
            settings.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            yield
        finally:
            for module, training in modes.items():
                module.training = training
