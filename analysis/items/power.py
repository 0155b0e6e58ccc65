"""How small a difference an item's seeds can show, from the spread of its paired differences so far."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analysis.items.table import ItemTable
from analysis.power import POWER, pooled_std, seeds_needed, smallest_difference
from sla_ablate.text import escape

_DELTAS = (0.002, 0.005, 0.01, 0.02, 0.05)


def describe(table: ItemTable, deltas: Sequence[float] | None = None) -> str:
    """The spread of each row's paired differences, what its seeds can show, and the seeds that differences take.

    Args:
        table: the item's.
        deltas: differences in nats per token; None: a choice of round ones.
    """
    groups = {key: group["delta"] for key, group in table.deltas.groupby(["setting", "pattern"], sort=False)}
    pooled = pooled_std(groups.values())
    where = escape.line(f"{table.precision} on {', '.join(table.processors)}")
    lines = [f"{table.item.name} at {table.scale}, {where}"]
    if math.isnan(pooled):
        return "\n".join([*lines, "no pattern has two pairs of seeds, so there is no spread to compute with"])
    width = max(len(escape.line(label)) for _, label in groups)
    for (_, label), group in groups.items():
        n, std = len(group), group.std()
        can = "" if n < 2 else f"  spread {std:.4f}, shows {smallest_difference(float(std), n):.4f} with these seeds"
        lines.append(f"  {escape.line(label):{width}}  {n} pair(s){can}")
    lines.append(f"  {'all, pooled':{width}}  spread {pooled:.4f}")
    lines.append(f"seeds for a chance of {POWER:.0%} that the 95 % interval of a difference excludes 0:")
    for delta in deltas or _DELTAS:
        needed = seeds_needed(delta, pooled)
        lines.append(f"  {abs(delta):.4f} nats/token: {'over 10,000' if math.isinf(needed) else f'{needed:.0f}'}")
    return "\n".join(lines)
