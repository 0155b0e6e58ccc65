"""Compiling the layers of a model, and what a killed compilation left behind."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch._dynamo
from torch._inductor.runtime.cache_dir_utils import cache_dir

from sla_ablate.model.transformer import Transformer
from sla_ablate.text.telling import waiting

_SETTLED_SECONDS = 5.0
"""A library that nobody has written to for so long is not being written."""


def compile_blocks(model: Transformer, say: Callable[[str], None]) -> None:
    """Compile each layer in place; layers that are alike share one compilation.

    The names in a checkpoint are the same, compiled or not. What compiled code cannot be loaded, because a compilation
    of this or an earlier run was killed while it was written, is removed and compiled afresh.

    Args:
        model: the model.
        say: shows a line to people.
    """
    if broken := _truncated_libraries(Path(cache_dir()), say):
        for path in broken:
            path.unlink(missing_ok=True)
        say(f"{len(broken)} compiled file(s) in {cache_dir()} were cut off by a kill; removed and compiled afresh")
    # A kind of layer is a compilation of one and the same code, with gradients or without; torch allows 8 by default.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 2 * model.config.n_layer)
    for block in model.blocks:
        block.compile()
    model.is_compiled = True


def _truncated_libraries(folder: Path, say: Callable[[str], None]) -> list[Path]:
    broken = [path for path in folder.rglob("*.so") if _is_truncated(path)]
    with waiting("waiting for compiled files that another process may be writing", say):
        while any(_seconds_since_written(path) < _SETTLED_SECONDS for path in broken):
            time.sleep(0.2)
    return [path for path in broken if _is_truncated(path)]


def _seconds_since_written(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def _is_truncated(path: Path) -> bool:
    """Tell whether an ELF file lacks its end, where its table of sections is (ELF specification 1.2, figure 1-3).

    A file that is gone does not: another run that starts now may have removed it.
    """
    try:
        with path.open("rb") as file:
            header, size_on_disk = file.read(64), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return False
    if len(header) < 64 or not header.startswith(b"\x7fELF"):
        return True
    start = int.from_bytes(header[40:48], "little")
    size, count = (int.from_bytes(header[at : at + 2], "little") for at in (58, 60))
    return size_on_disk < start + size * count
