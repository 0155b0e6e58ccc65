"""Initial weights: each parameter's are a function of the seed and of its name, and of nothing else.

So every pattern starts from the same weights, and a parameter that only one of two models has changes no other's.
"""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from sla_ablate.model.transformer import Transformer


def init_weights(model: Transformer, seed: int | None = None) -> None:
    """GPT-2's initialisation: N(0, 0.02), residual projections N(0, 0.02/√(2·n_layer)), biases 0.

    Args:
        model: the model; on the device `meta` there is nothing to initialise.
        seed: of all parameters, any whole number; None: one drawn from torch's global generator.
    """
    if model.device.type == "meta":
        return
    if seed is None:
        seed = int(torch.randint(2**63 - 1, (), device="cpu"))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif ".ln_" in name or name.startswith("ln_"):
            nn.init.ones_(parameter)
        else:
            std = 0.02 / (2 * model.config.n_layer) ** 0.5 if name.endswith("c_proj.weight") else 0.02
            nn.init.normal_(parameter, std=std, generator=_generator(seed, name, parameter.device))


def _generator(seed: int, name: str, device: torch.device) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little"))
