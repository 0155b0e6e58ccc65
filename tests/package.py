"""Build the wheel, install it into an environment of its own and use it from an empty folder.

Run as `python -m tests.package`. The environment sees the dependencies of the one that runs this, but not the
checkout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATTERN = """
from sla_ablate import SkipPattern

def last(n_layer, n_head):
    return SkipPattern.from_tables([[max(0, layer - 1)] * n_head for layer in range(n_layer)])
"""
"""A pattern of a user's own."""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = folder.glob("*.whl")
        site = folder / "site"
        zipfile.ZipFile(wheel).extractall(site)

        empty = folder / "empty"
        empty.mkdir()
        # The wheel first, then the dependencies; -S keeps the editable checkout off the path.
        path = os.pathsep.join([str(site), sysconfig.get_paths()["purelib"]])
        environment = {**os.environ, "PYTHONPATH": path}

        def run(*arguments: str) -> str:
            command = [sys.executable, "-S", *arguments]
            done = subprocess.run(command, cwd=empty, env=environment, check=True, capture_output=True, text=True)
            return done.stdout

        where = run("-c", "import sla_ablate, analysis; print(sla_ablate.__file__, analysis.__file__)")
        assert where.count(str(site)) == 2, f"not the wheel's: {where}"
        run("-m", "sla_ablate", "train", "-m", "pattern=baseline,sla_near", "scale=smoke", "optim.steps=3",
            "optim.warmup_steps=1")  # fmt: skip
        table = run("-m", "sla_ablate", "report", "runs/default", "--format", "markdown")
        assert "SLA, distance 1" in table, table

        (empty / "mine.py").write_text(PATTERN)
        group = empty / "groups" / "pattern"
        group.mkdir(parents=True)
        (group / "last.yaml").write_text("name: mine:last\n")
        run("-m", "sla_ablate", "train", "--config-dir", "groups", "pattern=last", "scale=smoke", "optim.steps=3",
            "optim.warmup_steps=1")  # fmt: skip
        table = run("-m", "sla_ablate", "report", "runs/default", "--format", "markdown")
        assert "| last, also SLA, distance 1, 2 of 2 heads |" in table, table
        print(f"{wheel.name} works from an empty folder")


if __name__ == "__main__":
    main()
