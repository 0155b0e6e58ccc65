"""The arrays that are measured of a model, as rows of one tidy table; analysis/README.md describes its columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.diversity.metric import HeadMetric
from analysis.diversity.metrics import all_metrics
from sla_ablate.patterns.skip_pattern import Mask

NUMBERS = ("layer", "head", "other_layer", "other_head", "position")
"""Columns of nullable integers."""
COLUMNS = (*NUMBERS, "role", "metric", "value")
_AXES: dict[str, tuple[str, ...]] = {
    "": (),
    "L": ("layer",),
    "LH": ("layer", "head"),
    "LHH": ("layer", "head", "other_head"),
    "LLH": ("layer", "other_layer", "head"),
}
_NAME = re.compile(
    r"(?P<metric>.+?)(_(?P<role>own_own|own_skip|skip_skip|own|skip))?(?P<error>_error)?(?P<buckets>_by_position)?"
)


def tidy(
    arrays: Mapping[str, npt.NDArray[np.float64]], skip: Mask, more: Sequence[type[HeadMetric]] = ()
) -> pd.DataFrame:
    """One row a value, columns `COLUMNS`; a value that is NaN, not defined, has none.

    Args:
        arrays: under the names and in the shapes of `measure_heads`.
        skip: which heads are skip heads, [L, H].
        more: metrics beside those of `HeadDiversity` that some of the arrays are of.
    """
    shapes = {name: shape for metric in (*all_metrics(), *more) for name, shape in metric.shapes.items()}
    tables = [_rows(name, array, shapes, skip) for name, array in arrays.items()]
    table = pd.concat([table[table["value"].notna()] for table in tables], ignore_index=True)
    return table.astype(dict.fromkeys(NUMBERS, "Int64"))


def _rows(name: str, array: npt.NDArray[np.float64], shapes: Mapping[str, str], skip: Mask) -> pd.DataFrame:
    parts = _NAME.fullmatch(name)
    assert parts is not None
    buckets = ("position",) if parts["buckets"] else ()
    shape = shapes.get(name.removesuffix("_by_position"), "LHH"[: array.ndim - len(buckets)])
    axes = buckets + _AXES[shape]
    places = dict(zip(axes, np.indices(array.shape).reshape(array.ndim, array.size), strict=True))
    if buckets:
        places["position"] = 1 << places["position"]
    if "other_head" in places:
        places["other_layer"] = places["layer"]
    elif "other_layer" in places:
        places["other_head"] = places["head"]
    role = parts["role"] if "head" not in places else _roles(places, skip)
    metric = parts["metric"] + (parts["error"] or "")
    return pd.DataFrame({**dict.fromkeys(NUMBERS), **places, "role": role, "metric": metric, "value": array.ravel()})


def _roles(places: Mapping[str, npt.NDArray[np.int64]], skip: Mask) -> list[str | None]:
    """The role of each head, or of each pair of different heads; None for a head beside itself."""
    here = skip[places["layer"], places["head"]]
    if "other_head" not in places:
        return ["skip" if skips else "own" for skips in here]
    there = skip[places["other_layer"], places["other_head"]]
    same = (places["layer"] == places["other_layer"]) & (places["head"] == places["other_head"])
    names = ("own_own", "own_skip", "skip_skip")
    return [None if one else names[n] for one, n in zip(same, here.astype(int) + there, strict=True)]
