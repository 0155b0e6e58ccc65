"""Which precision a run trains in."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["bf16-mixed", "32-true"]


def resolve(requested: str, device: str) -> Precision:
    """Lightning's name for `auto`, `bf16` or `fp32` on a device type (`cpu`, `cuda`, `mps`).

    `auto` is bfloat16 autocast where the processor multiplies bfloat16 natively, float32 elsewhere.
    """
    if requested == "auto":
        requested = "bf16" if has_bfloat16(device) else "fp32"
    return "bf16-mixed" if requested == "bf16" else "32-true"


def has_bfloat16(device: str) -> bool:
    """Whether the device has bfloat16 matrix instructions, not only an emulation."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False
