"""Tell W&B or MLflow what they could not be told while runs of a sweep trained."""

from __future__ import annotations

from pathlib import Path

from sla_ablate.commands._arguments import Parser, add_trust

USAGE = "SWEEP [--trust]"


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    parser = Parser("send")
    parser.add_argument("sweep", type=Path, help="folder of a sweep, such as runs/demo")
    add_trust(parser)
    options = parser.parse_args(arguments)
    from sla_ablate.config.extras import check_logger, check_trusted
    from sla_ablate.files import claim
    from sla_ablate.runs.record import read_config, read_summary
    from sla_ablate.runs.sweep import check_all_read, read_sweep, tell_others
    from sla_ablate.text.telling import Voice, tell
    from sla_ablate.training.loggers import UNSENT, send

    found = read_sweep(options.sweep.absolute(), read_summary)
    tell_others(found.left_out)
    folders = [run.folder for run in found.runs if (run.folder / UNSENT).exists()]
    tell(f"{len(folders)} run(s) with something to send")
    configs = [read_config(folder) for folder in folders]
    if not options.trust:
        for folder, config in zip(folders, configs, strict=True):
            check_trusted(folder / "config.yaml", config)
    failed = False
    for folder, config in zip(folders, configs, strict=True):
        with claim(folder) as lock:
            record = read_summary(folder)
            if lock is None or record is None:
                tell(f"{folder.name}  another process runs it; left alone")
                continue
            check_logger(config.logger)
            status = {"done": "FINISHED", "failed": "FAILED"}.get(record["state"], "KILLED")
            sent = send(folder, config, status, Voice(folder.name))
            if sent:
                tell(f"{folder.name}  {config.logger.name} has everything")
            failed = failed or not sent
    check_all_read(found.left_out)
    return 1 if failed else 0
