"""The figures' names and questions, without what draws them."""

from __future__ import annotations

import ast
from pathlib import Path

FIGURES = (
    *("pattern", "differences", "training", "position", "layers", "generalised_jsd", "jsd", "head_map", "entropy"),
    *("distance", "layer_similarity", "importance", "attention_grid"),
)
"""Each is a function in a file of its name in `analysis/figures`."""
OF_RUNS = ("pattern", "jsd", "head_map", "attention_grid")
"""The figures that show single runs."""


def question(name: str) -> str:
    """What a figure answers: the first line of its docstring."""
    path = Path(__file__).parent / "figures" / f"{name}.py"
    body = ast.parse(path.read_text(encoding="utf-8")).body
    (function,) = (node for node in body if isinstance(node, ast.FunctionDef) and node.name == name)
    return str(ast.get_docstring(function)).splitlines()[0]
