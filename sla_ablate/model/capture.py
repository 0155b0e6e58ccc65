"""What a forward pass attended to, for analysis.

    with capture(model) as captured:
        model(tokens)
    captured.calls[layer].keys

Forward hooks see the calls as they happen; without them the model runs as if this file did not exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn

from sla_ablate.model.transformer import Transformer


class AttentionCall(NamedTuple):
    """One layer's attention call; four tensors [B, H, T, head_size] in the precision of the run, with their graph."""

    queries: Tensor
    """After rotation."""
    keys: Tensor
    """The keys that the queries met: those of the layer that each head reads, after rotation."""
    values: Tensor
    """The values of the layer that each head reads."""
    outputs: Tensor
    """The heads' outputs o_h, before the output projection."""


@dataclass(frozen=True)
class Captured:
    """All attention calls of one forward pass, by layer, and the residual stream between the layers."""

    output_weights: list[Tensor]
    """Each layer's W_O by heads, [H, head_size, C]: head h adds o_h · W_O[h] to the residual stream."""
    calls: list[AttentionCall] = field(default_factory=list)
    """One call a layer."""
    stream: list[Tensor] = field(default_factory=list)
    """[B, T, C] before each layer, and after the last one."""


@contextmanager
def capture(model: Transformer) -> Iterator[Captured]:
    """Record the forward pass made inside the `with`; one pass, as another would be appended to it."""
    blocks = model.blocks
    n_head, head_size = model.config.n_head, model.config.head_size
    captured = Captured([block.attn.c_proj.weight.T.unflatten(0, (n_head, head_size)) for block in blocks])

    def see_call(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        captured.calls.append(AttentionCall(inputs[0], inputs[1], inputs[2], output))

    def see_stream(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        captured.stream.append(inputs[0])

    with ExitStack() as hooks:
        for block in blocks:
            hooks.enter_context(block.attn.attend.register_forward_hook(see_call))
        for reader in (*blocks, model.ln_f):
            hooks.enter_context(reader.register_forward_pre_hook(see_stream))
        yield captured
