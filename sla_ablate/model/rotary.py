"""Rotary positions (Su et al. 2021, arXiv 2104.09864), in the layout of GPT-NeoX and Llama.

Components i and i + head_size / 2 of a query or key form a plane that is turned by position · base^(-2i / head_size).
"""

from __future__ import annotations

import torch
from torch import Tensor

Rotations = tuple[Tensor, Tensor]
"""Cosines and sines of angles, [..., T, head_size] each."""


def rotations(positions: Tensor, head_size: int, base: float, dtype: torch.dtype) -> Rotations:
    """Cosines and sines of the angles at positions [..., T]: two of [..., T, head_size], at least float32."""
    wide = torch.promote_types(dtype, torch.float32)
    frequency = base ** (-torch.arange(0, head_size, 2, dtype=wide, device=positions.device) / head_size)
    angle = positions[..., None] * frequency
    angle = torch.cat([angle, angle], -1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [..., T, head_size] turned by the angles; computed in their precision, returned in that of x."""
    first, second = x.chunk(2, -1)
    return (x * cos + torch.cat([-second, first], -1) * sin).to(x.dtype)
