"""A GPT of any pattern as a Hugging Face model, so that the field's tools run on it.

Importing this module makes `AutoConfig` and `AutoModelForCausalLM` know the model type `sla-gpt`.
"""

from __future__ import annotations

import os
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationMixin,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutput

from sla_ablate.errors import InputError
from sla_ablate.model.config import GPTConfig
from sla_ablate.model.gpt import GPT
from sla_ablate.patterns import SkipPattern

CODE = "modeling_sla.py"
"""Module of a saved folder: what tools import that are told to trust its code."""


class SLAConfig(PretrainedConfig):
    """The shape of a GPT and its pattern.

    Args:
        key_source, value_source: the pattern's tables, [n_layer, n_head] as nested lists; None: every layer its
            own, and the values' as the keys'.
        **options: the fields of `GPTConfig`, and those of any Hugging Face configuration.
    """

    model_type = "sla-gpt"
    attribute_map = {  # noqa: RUF012
        "hidden_size": "n_embd",
        "max_position_embeddings": "block_size",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    def __init__(
        self,
        key_source: list[list[int]] | None = None,
        value_source: list[list[int]] | None = None,
        **options: Any,
    ) -> None:
        self.key_source = key_source
        self.value_source = value_source
        for field in fields(GPTConfig):
            setattr(self, field.name, options.pop(field.name, field.default))
        super().__init__(**options)

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """See `SLAForCausalLM.register_for_auto_class`."""

    def build(self) -> GPT:
        """A GPT with fresh weights."""
        config = GPTConfig(**{field.name: getattr(self, field.name) for field in fields(GPTConfig)})
        return GPT(config, SkipPattern.from_tables(self.key_source, self.value_source) if self.key_source else None)


class SLAForCausalLM(PreTrainedModel, GenerationMixin):
    """A GPT behind Hugging Face's interface. `generate` reads the whole context for every token: there is no cache."""

    config_class = SLAConfig
    base_model_prefix = "model"
    _is_stateful = True  # to transformers: it has no cache that could be cut back, so no tokens can be tried out

    def __init__(self, config: SLAConfig) -> None:
        super().__init__(config)
        self.model: GPT = config.build()
        self.post_init()

    @classmethod
    def from_gpt(cls, model: GPT) -> SLAForCausalLM:
        """The same model, sharing its weights."""
        tables = {"key_source": model.pattern.key_source.tolist(), "value_source": model.pattern.value_source.tolist()}
        with torch.device("meta"):
            wrapped = cls(SLAConfig(**asdict(model.config), **tables))
        wrapped.model = model
        wrapped.train(model.training)
        return wrapped

    def save_pretrained(self, save_directory: str | os.PathLike[str], *arguments: Any, **options: Any) -> None:
        """Write weights, configuration and the module by which tools that trust the folder find this class."""
        classes = {"AutoConfig": SLAConfig, "AutoModelForCausalLM": SLAForCausalLM}
        self.config.auto_map = {auto: f"{Path(CODE).stem}.{cls.__name__}" for auto, cls in classes.items()}
        super().save_pretrained(save_directory, *arguments, **options)
        (Path(save_directory) / CODE).write_text(
            "from sla_ablate.hf import SLAConfig, SLAForCausalLM\n", encoding="utf-8"
        )

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Nothing, lest saving what was loaded from a trusted folder copy this file into the next."""

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, GPT):
            module.init_weights()  # transformers keeps it from the weights that were loaded
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)  # for the rows that `resize_token_embeddings` adds

    @classmethod
    def is_custom_code(cls) -> bool:
        """False: `_init_weights` is made as transformers' own are, for a whole model."""
        return False

    def get_input_embeddings(self) -> nn.Module:
        """The embedding, which is the output layer too."""
        return self.model.wte

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Take another embedding, of any number of tokens, which becomes the output layer too.

        Raises:
            InputError: it is no embedding as wide as the model.
        """
        width = self.model.config.n_embd
        if not isinstance(value, nn.Embedding) or value.embedding_dim != width:
            raise InputError(f"{value} is no embedding {width} wide")
        self.model.wte = value
        self.model.config = replace(self.model.config, vocab_size=value.num_embeddings)
        self.config.vocab_size = value.num_embeddings

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int = 0,
        return_dict: bool | None = None,
        position_ids: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **unused: Any,
    ) -> CausalLMOutput | tuple[Tensor, ...]:
        """Logits, and with labels the mean loss of predicting each from the tokens before it.

        Args:
            input_ids: [B, T], at most block_size tokens a row.
            attention_mask: [B, T], 1 for tokens and 0 for padding before or after them; each row's logits at its
                tokens are those of the row without padding.
            labels: [B, T], usually the input_ids themselves; -100 counts for nothing.
            logits_to_keep: return the logits of only so many of the last positions; 0: of all.
            return_dict: false: return a plain tuple.
            position_ids: [B, T] or [1, T]; must be what the model counts itself, from 0 at each row's first token.
            num_items_in_batch: divide the sum of the losses by this instead of the number of labels.
            **unused: what tools pass to any model, as long as it is None or false: `use_cache=False`,
                `output_attentions=False`, `past_key_values=None` and the like.

        Raises:
            InputError: a row has more than block_size tokens or padding between tokens, `position_ids` are others,
                or an argument asks for something that there is not.
        """
        for name, value in unused.items():
            if value is not None and value is not False:
                told = f"={value}" if isinstance(value, bool | int | str) else ""
                raise InputError(f"{name}{told} is not possible with {type(self).__name__}; leave it out")
        if attention_mask is None:
            _check_positions(position_ids, torch.ones_like(input_ids))
            hidden = self.model.hidden_states(input_ids)
        else:
            # What comes after a token does not reach it, and columns of nothing but padding need not be read.
            order = _left_aligned(attention_mask)
            _check_positions(position_ids, attention_mask)
            longest = max(1, int(attention_mask.sum(1).max()))
            hidden = self.model.hidden_states(input_ids.gather(1, order[:, :longest]))
            hidden = F.pad(hidden, (0, 0, 0, order.shape[1] - longest))
            hidden = hidden.gather(1, order.argsort(1)[..., None].expand_as(hidden))
        logits = F.linear(hidden[:, -logits_to_keep:], self.model.wte.weight)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, self.config.vocab_size, num_items_in_batch=num_items_in_batch)
        output = CausalLMOutput(loss=loss, logits=logits)
        return output.to_tuple() if return_dict is False else output

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        logits_to_keep: int = 0,
        position_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Arguments of the next `forward`: the whole context, whatever transformers would keep in a cache.

        What the user asks for is passed on, for `forward` to refuse what there is not.
        """
        asked = {name: kwargs.get(name) for name in ("output_attentions", "output_hidden_states")}
        if position_ids is not None and position_ids.shape[-1] == input_ids.shape[1]:
            asked["position_ids"] = position_ids  # else of the prompt alone, which was checked with it
        return {"input_ids": input_ids, "attention_mask": attention_mask, "logits_to_keep": logits_to_keep, **asked}


def _left_aligned(attention_mask: Tensor) -> Tensor:
    """Which column each column comes from, [B, T], once every row is turned until it starts with its first token."""
    is_token = attention_mask.int()
    starts = F.pad(is_token, (1, 0)).diff(dim=1) == 1
    if (starts.sum(1) > 1).any():
        raise InputError("attention_mask has zeros between ones; only padding before or after the tokens is possible")
    T = is_token.shape[1]
    return (torch.arange(T, device=is_token.device) + is_token.argmax(1, keepdim=True)) % T


def _check_positions(position_ids: Tensor | None, attention_mask: Tensor) -> None:
    """Raise an InputError if the tokens' positions are not 0, 1, … in every row."""
    if position_ids is not None and ((position_ids != attention_mask.cumsum(1) - 1) & attention_mask.bool()).any():
        raise InputError("position_ids are not possible but for 0, 1, … from each row's first token; leave them out")


AutoConfig.register(SLAConfig.model_type, SLAConfig)
AutoModelForCausalLM.register(SLAConfig, SLAForCausalLM)
