"""metrics.jsonl: what a run measures while it trains."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L

from sla_ablate.errors import InputError
from sla_ablate.files import digest_of, naming, opened
from sla_ablate.text.words import as_json
from sla_ablate.training.loggers import RunLoggers


class Metrics(L.Callback):
    """One JSON line a measurement, appended; a resumed run cuts off what came after its checkpoint.

    A value that is not finite is null, and no logger is told it.

    Args:
        path: of the file; None on all ranks but the first, which write none.
        logger: all are told every line too, by a resumed run from the first on; each knows which it still holds.
    """

    def __init__(self, path: Path | None, logger: RunLoggers | None = None) -> None:
        self.path = path
        self.logger = logger

    @staticmethod
    def check(path: Path, state_dict: Mapping[str, Any]) -> None:
        """Make sure that a file begins with what it was when this state was saved.

        Raises:
            InputError: it does not.
        """
        try:
            with opened(path.parent, path.name) as file:
                if digest_of(file, state_dict["bytes"]) == state_dict["sha256"]:
                    return
        except FileNotFoundError:
            pass
        raise InputError(f"{path} is missing, or was changed since the checkpoint was written")

    def append(self, **values: Any) -> None:
        """Append a line."""
        line = as_json(values)
        if self.path is None:
            return
        with naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if self.logger is not None:
            self.logger.log(**json.loads(line))

    def state_dict(self) -> dict[str, Any]:
        """The file's length, which is on the disk before the checkpoint that tells it."""
        if self.path is None:
            return {}
        with naming(self.path), self.path.open("ab+") as file:
            os.fsync(file.fileno())
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            return {"bytes": size, "sha256": digest_of(file, size)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Shorten the file to what it was: lines that will be written again, or only half of one, go."""
        if self.path is None:
            return
        os.truncate(self.path, state_dict["bytes"])
        if self.logger is not None:
            for line in self.path.read_text(encoding="utf-8").splitlines():
                self.logger.log(**json.loads(line))
