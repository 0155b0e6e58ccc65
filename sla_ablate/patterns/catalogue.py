"""What `sla-ablate patterns` prints: a pattern's tables, diagram and costs, or one line for each of the family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from sla_ablate.errors import InputError
from sla_ablate.patterns import SkipPattern, Table, diagram
from sla_ablate.patterns.costs import Costs, Shape, costs

NAMES = {
    "parameters": "parameters",
    "parameters_read": "parameters read",
    "forward_flops_per_token": "forward FLOPs per token",
    "training_flops_per_token": "training FLOPs per token",
    "kv_cache_bytes_per_token": "KV-cache bytes per token",
}


@dataclass(frozen=True)
class Member:
    """A pattern of some model, and what it is called."""

    label: str
    pattern: SkipPattern
    shape: Shape


def describe(member: Member) -> str:
    """One pattern: its tables as an override takes them, its diagram, its costs beside the baseline's."""
    pattern = member.pattern
    title = f"{member.label}: {pattern.n_layer} layers × {pattern.n_head} heads\n"
    keys, values = _rows(pattern.key_source), _rows(pattern.value_source)
    tables = f"key_source =\n{keys}value_source =\n{values}"
    if keys == values:
        tables = f"key_source = value_source =\n{keys}"
    return "\n".join([title, tables, diagram.text(pattern), _costs(member)])


def family(shape: Shape, members: Mapping[str, Member | InputError]) -> str:
    """One line for each pattern of one model with its names and its costs relative to the baseline's.

    Names that need an option, or that the model has no pattern for, are told below.

    Raises:
        InputError: none of them is possible.
    """
    errors = {name: member for name, member in members.items() if isinstance(member, InputError)}
    if len(errors) == len(members):
        raise next(iter(errors.values()))
    names: dict[SkipPattern, list[str]] = {}  # several may name one pattern
    for name, member in members.items():
        if isinstance(member, Member):
            names.setdefault(member.pattern, []).append(name)
    lines = [
        f"{shape.n_layer} layers × {shape.n_head} heads, width {shape.n_embd}, context {shape.block_size} tokens; "
        "per token, relative to the baseline:\n\n",
        f"{'pattern':<20}{'KV cache':>10}{'FLOPs':>10}\n",
    ]
    for name, *others in names.values():
        member = members[name]
        assert isinstance(member, Member)
        ours, baseline = _pair(member)
        cache = ours.kv_cache_bytes_per_token / baseline.kv_cache_bytes_per_token
        flops = ours.training_flops_per_token / baseline.training_flops_per_token
        also = f" (also {', '.join(others)})" if others else ""
        lines.append(f"{name:<20}{cache:>10.3f}{flops:>10.3f}   {member.label}{also}\n")
    told = [f"{name:<20}{error}\n" for name, error in errors.items()]
    return "".join([*lines, *(["\nnot with these options:\n"] if told else []), *told])


def _costs(member: Member) -> str:
    pattern, baseline = (asdict(each) for each in _pair(member))
    width = max(len(member.label), 16)
    lines = [f"{'':<26}{'baseline':>16}  {member.label:>{width}}   ratio\n"]
    for cost, name in NAMES.items():
        ratio = pattern[cost] / baseline[cost]
        lines.append(f"{name:<26}{baseline[cost]:>16,.0f}  {pattern[cost]:>{width},.0f}  {ratio:>6.3f}\n")
    return "".join(lines)


def _pair(member: Member) -> tuple[Costs, Costs]:
    """The costs under the pattern and under the baseline."""
    baseline = SkipPattern.baseline(member.pattern.n_layer, member.pattern.n_head)
    return costs(member.shape, member.pattern), costs(member.shape, baseline)


def _rows(table: Table) -> str:
    return "[" + ",\n ".join(str(row).replace(" ", "") for row in table.tolist()) + "]\n"
