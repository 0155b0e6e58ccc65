"""The typed schema of one run's configuration: what `conf/` may hold, in plain dataclasses.

Light on purpose (no torch, no Hydra): the command line validates whole sweeps with it before anything starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from sla_ablate.config.bounds import check_numbers
from sla_ablate.data.config import BUILT_IN, CORPORA, DataConfig
from sla_ablate.errors import DOTTED, InputError, unknown
from sla_ablate.model.config import POSITIONS, GPTConfig
from sla_ablate.patterns import SkipPattern
from sla_ablate.patterns.registry import MECHANISMS, Mechanism, Names, mechanism
from sla_ablate.patterns.skip_pattern import PARTITIONS, PLACEMENTS, SHARES

_SWEEP = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
"""A folder's name that nothing takes for a path, a pattern, an option of another or a variable."""
BASELINE = "baseline"
"""Label of the pattern without skips, the one all others are compared with."""
LOGGERS = ("none", "csv", "tensorboard", "wandb", "mlflow")
CHOICES: Mapping[str, tuple[str, ...]] = {
    "model.positions": POSITIONS,
    "pattern.placement": PLACEMENTS,
    "pattern.partition": PARTITIONS,
    "pattern.share": SHARES,
    "data.corpus": CORPORA,
    "trainer.accelerator": ("auto", "cpu", "gpu"),
    "trainer.strategy": ("ddp", "fsdp"),
    "trainer.precision": ("auto", "bf16", "fp32"),
    "logger.mode": ("online", "offline"),
}
"""What may be one of a few."""
PATH = "the path of your own"
OPEN_CHOICES: Mapping[str, tuple[str, ...]] = {
    "pattern.name": (*MECHANISMS, DOTTED),
    "data.tokenizer": (*BUILT_IN, PATH),
    "logger.name": LOGGERS,
}
"""What may be one of a few or something else: what else is last, or several of them."""


@dataclass
class ModelConfig:
    """The shape of the GPT; the vocabulary comes from the tokenizer. See `GPTConfig`."""

    n_layer: int = 6
    n_head: int = 4
    n_embd: int = 128
    block_size: int = 256
    bias: bool = True
    dropout: float = 0.0
    positions: str = "learned"
    rotary_base: float = 10000.0


@dataclass
class PatternConfig:
    """Which layer each head reads; see `SkipPattern`. A constructor ignores the fields it has no use for.

    Any of them but `options` that is an argument of a user's own function is passed to it; null is its default. What a
    pattern has no use for is null in the configuration of a run that was planned.
    """

    name: str = "baseline"
    """Its constructor, or a function of the user's own."""
    distance: int | None = None
    """n_l, in layers; three quarters of the layers if null, as in the paper (9 of 12), for `sla_count` 1."""
    heads: int | None = None
    """n_h, skip heads a layer; three quarters of the heads if null, as in the paper (9 of 12); `first_layer`: all;
    `skip_v1`: half."""
    source: int | None = 0
    """The layer that is read, for `first_layer` and `skip_v1`."""
    layers: int | None = None
    """Only the last so many layers carry skip heads; every layer that can if null, for `sla_count` 3."""
    placement: str | None = "first"
    """Which heads of a layer skip: the `first`, the `last`, or `spread` evenly."""
    group_size: int | None = 2
    """The number of adjacent layers that share keys and values, for `cla`."""
    split: int | None = None
    """The layer whose keys and values all layers above it read, for `yoco`; the middle one if null. For
    `fused_kv_lite` that of the keys alone; the highest of the lower half if null."""
    partition: str | None = "pizza"
    """The partition for `condensed`: `pizza`, `sandwich` or `lasagna`."""
    kv_layers: int | None = None
    """The number of layers with keys and values of their own, for `condensed`; half of the layers if null."""
    seed: int | None = 0
    """The seed of the layers drawn for `random`; not the run's seed."""
    share: str | None = "both"
    """What is read from another layer: `both`, or only `keys` or `values`."""
    key_source: list[list[int]] | None = None
    """The layer of each head's keys for `tables`, [n_layer, n_head]."""
    value_source: list[list[int]] | None = None
    """The layer of each head's values for `tables`, [n_layer, n_head]; the keys' if null."""
    layer_types: str | None = None
    """The layer that each layer reads, as in 0_0_2_2_4_4; it is the pattern then, whatever `name` says."""
    label: str | None = None
    """What tables and figures call the pattern; null: its name and options. No part of a run's identity, and the
    baseline is always `baseline`. '${pattern.distance}' in it stands for that option's value."""
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of a function of the user's own that are no fields here."""


@dataclass
class OptimConfig:
    """AdamW, its schedule and its batches; steps are optimizer steps."""

    steps: int = 600
    """Optimizer steps."""
    batch_size: int = 4
    """Sequences of block_size tokens in one optimizer step, over all micro-batches and devices."""
    micro_batches: int = 1
    """Parts into which a batch is cut to save memory; their gradients are accumulated."""
    lr: float = 3e-3
    """Peak learning rate."""
    min_lr: float = 3e-4
    """Learning rate at the last step."""
    warmup_steps: int = 60
    """Steps over which the learning rate rises to its peak."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    """AdamW's decay rates of the means of gradients and of their squares."""
    weight_decay: float = 0.1
    """Weight decay of matrices and embeddings; biases and layer norms have none."""
    grad_clip: float = 1.0
    """Largest norm of the whole gradient; 0: no clipping."""
    label_smoothing: float = 0.0
    """Weight of the uniform distribution that is mixed into the targets of the training loss."""


@dataclass
class EvaluationConfig:
    """Which part of the validation split is scored; part of a run's identity."""

    tokens: int | None = None
    """Tokens that are scored, of documents in an order that is a property of the data, at most a sixteenth of them of
    any one document, its beginning; null: the whole split."""


@dataclass
class TrainerConfig:
    """The place and the way in which a run is carried out; none of it but the precision changes the result.

    Several devices change it as another order of summation does, and dropout draws other numbers.
    """

    accelerator: str = "auto"
    """Lightning's: `auto`, `cpu`, `gpu`."""
    devices: int = 1
    """GPUs of this machine, or processes on a CPU, that share every batch."""
    strategy: str = "ddp"
    """What each of several devices holds: the whole model (`ddp`) or a share of it (`fsdp`)."""
    precision: str = "auto"
    """Precision of training: `bf16` (autocast), `fp32`, or `auto`: bf16 where the processor has the instructions, as
    settled where the run is planned and kept from then on."""
    threads: int = 1
    """CPU threads of one run, on each of its devices."""
    workers: int = 0
    """Processes that read batches; 0: the training process does."""
    log_every: int = 20
    """Steps between lines of metrics.jsonl."""
    validate_every: int = 0
    """Steps between validations while training; 0: only the final one."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints, from which an interrupted run goes on; 0: only at the end or when asked to stop."""
    keep_checkpoints: int = 0
    """How many of the last checkpoints a finished run keeps beside its model; while it trains there are two."""
    keep_best: bool = False
    """Keep the model of the lowest validation loss too, in `checkpoints/best`."""
    compile: bool = False
    """Compile the layers with torch.compile; worth it on a GPU."""
    checkpoint_activations: bool = False
    """Keep only what goes into each layer and compute the rest again in the backward pass: less memory, more time."""


@dataclass
class LoggerConfig:
    """Who is told the metrics besides metrics.jsonl; does not change the result."""

    name: str = "none"
    """`none`, or any of `csv`, `tensorboard`, `wandb` and `mlflow`, joined by commas; logger=[csv,wandb] is both."""
    project: str = "sla-ablate"
    """W&B's project, MLflow's experiment."""
    mode: str = "online"
    """W&B's mode: `online`, or `offline` to synchronise later."""
    tracking_uri: str | None = None
    """MLflow's store; null: the variable MLFLOW_TRACKING_URI, or else a database in the folder of the sweep."""
    entity: str | None = None
    """W&B's user or team; null: the key's own."""
    group: str | None = None
    """W&B's group; null: the sweep's name."""
    tags: list[str] = field(default_factory=list)
    """W&B's tags."""
    notes: str | None = None
    """W&B's notes."""

    @property
    def names(self) -> list[str]:
        """The loggers, each once."""
        return [name for name in dict.fromkeys(self.name.split(",")) if name != "none"]


@dataclass
class LimitsConfig:
    """What one attempt at a run may take before it is ended as failed; null: no limit."""

    minutes: float | None = None
    """Time."""
    memory_gb: float | None = None
    """Main memory that its processes own, in 10^9 bytes; pages of the corpus's files do not count."""


@dataclass
class RunConfig:
    """One run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    pattern: PatternConfig = field(default_factory=PatternConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    seed: int = 0
    """The seed of the initial weights, the batches and dropout; equal for the runs of a pair."""
    sweep: str = "default"
    """Name of the folder that collects the runs to be compared."""
    output: str = "runs"
    """Folder of all sweeps."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunConfig:
        """Make a configuration from nested plain containers, such as the `config` of a run record.

        Raises:
            InputError: a key is unknown, or its value of another type.
        """
        made: RunConfig = _typed(cls, values, "")
        return made

    def gpt_config(self, vocab_size: int) -> GPTConfig:
        """The model's shape with the tokenizer's vocabulary."""
        return GPTConfig(vocab_size=vocab_size, **asdict(self.model))

    def skip_pattern(self) -> SkipPattern:
        """The source tables that `pattern` describes for this model."""
        m = self.model
        return self.mechanism().pattern(m.n_layer, m.n_head, self._pattern_fields())

    def pattern_arguments(self) -> dict[str, Any]:
        """The options that the pattern has a use for, with what null stands for filled in."""
        m = self.model
        return self.mechanism().arguments(m.n_layer, m.n_head, self._pattern_fields())

    def forget_unused(self) -> None:
        """Set to null the options that the pattern has no use for."""
        used = self.mechanism().options
        for each in fields(self.pattern):
            if each.name not in (*used, "name", "layer_types", "label", "options"):
                setattr(self.pattern, each.name, None)
        if ":" not in self.pattern_name:
            self.pattern.options = {}

    def pattern_label(self) -> str:
        """The pattern in words, for tables and figures: the user's own, but for the baseline."""
        own = self.pattern.label if self.pattern.label and not self.skip_pattern().is_baseline else None
        return own or self._pattern_names().label

    def pattern_slug(self) -> str:
        """The pattern as a piece of a folder's name."""
        return self._pattern_names().slug

    def _pattern_names(self) -> Names:
        m = self.model
        return self.mechanism().named(m.n_layer, m.n_head, self._pattern_fields())

    def _pattern_fields(self) -> dict[str, Any]:
        fields = asdict(self.pattern)
        del fields["label"]  # which is no argument
        return fields

    def mechanism(self) -> Mechanism:
        """The pattern's constructor and its names.

        Raises:
            InputError: there is none of this name.
        """
        return mechanism(self.pattern_name)

    @property
    def pattern_name(self) -> str:
        """The name of the pattern's mechanism, which layer types of its own are too, whatever `pattern.name` says."""
        return self.pattern.name if self.pattern.layer_types is None else "layer_types"

    def check(self) -> None:
        """Everything that can be known before data are read.

        Raises:
            InputError: the first value that is not possible, in one line.
        """
        o, t = self.optim, self.trainer
        check_numbers(self)
        self.gpt_config(vocab_size=257)
        self.skip_pattern()
        for key, allowed in CHOICES.items():
            section, _, name = key.partition(".")
            value = getattr(getattr(self, section), name)
            if value not in allowed and not (value is None and section == "pattern"):
                raise unknown(key, value, allowed)
        if self.pattern.label is not None and not self.pattern.label.strip():
            raise InputError("pattern.label is empty; give the pattern a name, or leave it out")
        if self.pattern.label == BASELINE and not self.skip_pattern().is_baseline:
            raise InputError(f"pattern.label={BASELINE} is the name of the pattern without skips; choose another")
        if o.min_lr > o.lr:
            raise InputError(f"optim.lr={o.lr} is not possible; choose at least min_lr={o.min_lr}")
        if len(o.betas) != 2:
            raise InputError(f"optim.betas={list(o.betas)} is not possible; choose two numbers from 0 to below 1")
        parts = o.micro_batches * t.devices
        if o.batch_size % parts:
            times = f" times trainer.devices={t.devices}" if t.devices > 1 else ""
            raise InputError(
                f"optim.micro_batches={o.micro_batches}{times} does not divide optim.batch_size={o.batch_size}; "
                f"choose a multiple of {parts}, such as {-(-o.batch_size // parts) * parts}"
            )
        if o.warmup_steps > o.steps:
            raise InputError(
                f"optim.warmup_steps={o.warmup_steps} is more than optim.steps={o.steps}; choose at most that"
            )
        if t.keep_best and not t.validate_every:
            raise InputError("trainer.keep_best needs validations to choose from; set trainer.validate_every")
        for name in self.logger.names:
            if name not in LOGGERS:
                raise unknown("logger.name", name, LOGGERS)
        if not _SWEEP.fullmatch(self.sweep):
            raise InputError(
                f"sweep={self.sweep!r} is no name of a sweep; choose letters, digits, '.', '_' and '-', no '.' first"
            )


def _typed(cls: Any, values: object, prefix: str) -> Any:
    if not isinstance(values, dict):
        raise InputError(f"{prefix.rstrip('.') or 'the configuration'} is no mapping of names to values")
    types = _types(cls)
    made = {}
    for name, value in values.items():
        if name not in types:
            raise unknown("option", f"{prefix}{name}", (f"{prefix}{each}" for each in types))
        if is_dataclass(types[name]):
            made[name] = _typed(types[name], value, f"{prefix}{name}.")
        elif _is_of(value, types[name]):
            made[name] = value
        else:
            raise InputError(f"{prefix}{name}={value!r} is of another type; it has to be {_told(types[name])}")
    return cls(**made)


@cache
def _types(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)


def _is_of(value: object, hint: Any) -> bool:
    """True if a value is what a type hint of the schema's says; whole numbers are real ones too."""
    if isinstance(hint, UnionType):
        return any(_is_of(value, each) for each in get_args(hint))
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_is_of(each, *get_args(hint)) for each in value)
    if hint in (int, float):
        return isinstance(value, hint | int) and not isinstance(value, bool)
    return isinstance(value, get_origin(hint) or hint)


def _told(hint: Any) -> str:
    return str(hint if get_args(hint) else hint.__name__)
