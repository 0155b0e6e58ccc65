"""Tell W&B or MLflow what they could not be told while runs of a sweep trained."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sla_ablate.commands._arguments import Parser

USAGE = "SWEEP"


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    parser = Parser("send")
    parser.add_argument("sweep", type=Path, help="folder of a sweep, such as runs/demo")
    options = parser.parse_args(arguments)
    from sla_ablate.config.extras import check_logger
    from sla_ablate.files import claim
    from sla_ablate.runs.record import read_config, read_summary
    from sla_ablate.runs.sweep import check_all_read, read_sweep, tell_others
    from sla_ablate.training.loggers import UNSENT, send

    found = read_sweep(options.sweep.absolute(), read_summary)
    tell_others(found.left_out)
    folders = [run.folder for run in found.runs if (run.folder / UNSENT).exists()]
    print(f"{len(folders)} run(s) with something to send")
    failed = False
    for folder in folders:
        with claim(folder) as lock:
            record = read_summary(folder)
            if lock is None or record is None:
                print(f"{folder.name}  another process runs it; left alone")
                continue
            config = read_config(folder)
            check_logger(config.logger)
            status = {"done": "FINISHED", "failed": "FAILED"}.get(record["state"], "KILLED")
            sent = send(folder, config, status, partial(print, f"{folder.name} "))
            if sent:
                print(f"{folder.name}  {config.logger.name} has everything", flush=True)
            failed = failed or not sent
    check_all_read(found.left_out)
    return 1 if failed else 0
