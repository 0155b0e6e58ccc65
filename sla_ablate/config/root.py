"""The folder of what the package has beside its code."""

from __future__ import annotations

from pathlib import Path

import sla_ablate


def data_root() -> Path:
    """The folder that holds `conf/` and `experiments/`: inside an installed package, or the checkout."""
    package = Path(sla_ablate.__file__).parent
    installed = package / "_data"
    return installed if installed.is_dir() else package.parent
