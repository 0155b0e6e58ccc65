"""What a run's line tells of its heads, from what `analyze` measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.analyze import Effort
from analysis.stored import read_result

EFFORT = Effort(tokens=8192, query_rows=128)
"""How much is measured of every run of an item."""
_DIGITS = 5


def heads_of(run: Path) -> dict[str, Any] | None:
    """The measures of a run's layers, lists [L], and of its heads, lists [L][H], by name; None if it has none."""
    try:
        table = read_result(run).to_pandas()
    except FileNotFoundError:
        return None
    here = table[table["layer"].notna() & table["position"].isna() & table["other_layer"].isna()]
    here = here[here["other_head"].isna()]
    of_layers = here[here["head"].isna() & here["role"].isna()]
    of_heads = here[here["head"].notna()]
    return {
        "tokens": EFFORT.tokens,
        "layers": {
            metric: _rounded(rows.sort_values("layer")["value"].to_numpy())
            for metric, rows in of_layers.groupby("metric")
        },
        "heads": {
            metric: _rounded(rows.pivot(index="layer", columns="head", values="value").to_numpy())
            for metric, rows in of_heads.groupby("metric")
        },
    }


def _rounded(values: np.ndarray[Any, Any]) -> Sequence[Any]:
    """Plain lists, with null for what is not defined; a sixth digit of a measure of heads is noise."""
    plain = np.round(values.astype(float), _DIGITS).astype(object)
    plain[np.isnan(values.astype(float))] = None
    rows: list[Any] = plain.tolist()
    return rows
