"""What `sla-ablate patterns` prints: a pattern's tables, diagram and costs, or one line for each of the family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from sla_ablate.config.schema import RunConfig
from sla_ablate.data.tokenizers import ByteTokenizer
from sla_ablate.errors import InputError
from sla_ablate.patterns import SkipPattern, Table, diagram
from sla_ablate.patterns.costs import Costs, costs

NAMES = {
    "parameters": "parameters",
    "parameters_read": "parameters read",
    "forward_flops_per_token": "forward FLOPs per token",
    "training_flops_per_token": "training FLOPs per token",
    "kv_cache_bytes_per_token": "KV-cache bytes per token",
}


def describe(config: RunConfig) -> str:
    """One pattern: its tables as an override takes them, its diagram, its costs beside the baseline's."""
    config.check()
    pattern, label = config.skip_pattern(), config.pattern_label()
    title = f"{label}: {pattern.n_layer} layers × {pattern.n_head} heads\n"
    keys, values = _rows(pattern.key_source), _rows(pattern.value_source)
    tables = f"key_source =\n{keys}value_source =\n{values}"
    if keys == values:
        tables = f"key_source = value_source =\n{keys}"
    return "\n".join([title, tables, diagram.text(pattern), _costs(config, label)])


def draw(configs: Sequence[RunConfig]) -> str:
    """The one pattern of these configurations as an SVG.

    Raises:
        InputError: they are of several.
    """
    drawings = {diagram.svg(config.skip_pattern(), config.pattern_label()) for config in configs}
    if len(drawings) > 1:
        raise InputError(f"--svg draws one pattern, not {len(drawings)}; choose it with pattern=NAME")
    return drawings.pop()


def family(members: Mapping[str, RunConfig]) -> str:
    """One line for each named configuration, all of one model, with its costs relative to the baseline's.

    Raises:
        InputError: none of them is possible.
    """
    m = next(iter(members.values())).model
    lines = [
        f"{m.n_layer} layers × {m.n_head} heads, width {m.n_embd}, context {m.block_size} tokens; "
        "per token, relative to the baseline:\n\n",
        f"{'pattern':<20}{'KV cache':>10}{'FLOPs':>10}\n",
    ]
    errors = []
    for name, config in members.items():
        try:
            config.check()
            ours, baseline = _pair(config)
        except InputError as error:
            errors.append(error)
            lines.append(f"{name:<20}{error}\n")
            continue
        cache = ours.kv_cache_bytes_per_token / baseline.kv_cache_bytes_per_token
        flops = ours.training_flops_per_token / baseline.training_flops_per_token
        lines.append(f"{name:<20}{cache:>10.3f}{flops:>10.3f}   {config.pattern_label()}\n")
    if len(errors) == len(members):
        raise errors[0]
    return "".join(lines)


def _costs(config: RunConfig, label: str) -> str:
    pattern, baseline = (asdict(each) for each in _pair(config))
    width = max(len(label), 16)
    lines = [f"{'':<26}{'baseline':>16}  {label:>{width}}   ratio\n"]
    for cost, name in NAMES.items():
        ratio = pattern[cost] / baseline[cost]
        lines.append(f"{name:<26}{baseline[cost]:>16,.0f}  {pattern[cost]:>{width},.0f}  {ratio:>6.3f}\n")
    return "".join(lines)


def _pair(config: RunConfig) -> tuple[Costs, Costs]:
    """Costs under the pattern and under the baseline, with the vocabulary asked for: no corpus is read."""
    gpt = config.gpt_config(ByteTokenizer.vocab_size if config.data.tokenizer == "bytes" else config.data.vocab_size)
    return costs(gpt, config.skip_pattern()), costs(gpt, SkipPattern.baseline(gpt.n_layer, gpt.n_head))


def _rows(table: Table) -> str:
    return "[" + ",\n ".join(str(row).replace(" ", "") for row in table.tolist()) + "]\n"
