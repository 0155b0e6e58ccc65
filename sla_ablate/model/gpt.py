"""GPT: the transformer with its output layer, its loss, and all that one does with a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sla_ablate.model.config import GPTConfig
from sla_ablate.model.formats import checkpoint, gpt2
from sla_ablate.model.generation.cache import KVCache
from sla_ablate.model.generation.generate import generate
from sla_ablate.model.initial import init_weights
from sla_ablate.model.loss import mean_nll, token_nll
from sla_ablate.model.transformer import Transformer
from sla_ablate.patterns import SkipPattern


class GPT(Transformer):
    """A GPT-2 decoder under a skip pattern; arguments as of `Transformer`.

    The output layer's weights are the token embeddings.
    """

    generate = generate
    init_weights = init_weights

    def __init__(self, config: GPTConfig, pattern: SkipPattern | None = None, prune: bool = True) -> None:
        super().__init__(config, pattern, prune)
        self.init_weights()

    def forward(
        self,
        tokens: Tensor,
        targets: Tensor | None = None,
        label_smoothing: float = 0.0,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Logits, or with targets their mean negative log-likelihood.

        Args:
            tokens: [B, T], T at most block_size.
            targets: [B, T]; -100 counts for nothing.
            label_smoothing: see `mean_nll`.
            cache: what the model has read before these tokens; they are added to it, without gradient.

        Returns:
            [B, T, V], or a scalar in nats per token.
        """
        hidden = self.hidden_states(tokens, cache)
        if targets is None:
            return F.linear(hidden, self.wte.weight)
        return mean_nll(*self._output_layer(hidden), targets.flatten(), label_smoothing)

    @torch.no_grad()
    def nll(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Negative log-likelihood of every target, [B, T] in nats; 0 where the target is -100."""
        return token_nll(*self._output_layer(self.hidden_states(tokens)), targets.flatten()).view(targets.shape)

    def _output_layer(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states as [B·T, C] and the output layer, in the precision that autocast asks for."""
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.wte.weight.dtype
        return hidden.flatten(0, 1).to(dtype), self.wte.weight.to(dtype)

    @classmethod
    def from_gpt2(cls, weights: Mapping[str, Any] | str | Path, pattern: SkipPattern | None = None) -> GPT:
        """A GPT with weights under Hugging Face's GPT-2 names; see `sla_ablate.model.formats.gpt2.load`."""
        return gpt2.load(cls, weights, pattern)

    def to_gpt2(self) -> dict[str, Tensor]:
        """A copy of the weights under Hugging Face's GPT-2 names; see `sla_ablate.model.formats.gpt2.dump`."""
        return gpt2.dump(self)

    def save(self, folder: str | Path) -> None:
        """Write the model to a folder, made if need be; see `sla_ablate.model.formats.checkpoint.save`."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        checkpoint.save(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> GPT:
        """The model that `save` wrote to a folder, or that of a finished run's folder."""
        return checkpoint.load(cls, Path(folder))
