"""Measure the heads of every done run, into two tables in SWEEP/analysis."""

from __future__ import annotations

from pathlib import Path

from sla_ablate.bounds import Bounds
from sla_ablate.commands._arguments import Parser, add_data_path, add_trust, number

USAGE = "SWEEP [data.path=PATH] [--tokens N] [--query-rows N] [--stride N] [--metric NAME] [--jobs N] [--trust]"

_TOKENS = number(Bounds(1, 10**12))


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    parser = Parser("analyze")
    parser.add_argument("sweep", type=Path, help="folder of a sweep, such as runs/demo")
    parser.add_argument(
        "--tokens", type=_TOKENS, default=8192, metavar="N", help="of the validation split (default: 8192)"
    )
    parser.add_argument(
        "--query-rows",
        type=number(Bounds(2, 2**20)),
        default=256,
        metavar="N",
        help="rows a window from which pairwise divergence is estimated; all, if there are no more (default: 256)",
    )
    parser.add_argument(
        "--stride", type=_TOKENS, metavar="N", help="also score the split in windows that overlap, N tokens apart"
    )
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="also measure a metric of your own, my_package.module:Name; may be given again",
    )
    parser.add_argument(
        "--jobs",
        type=number(Bounds(1, 1024)),
        metavar="N",
        help="runs at a time, on one core each (default: all cores)",
    )
    add_data_path(parser)
    add_trust(parser)
    options = parser.parse_intermixed_args(arguments)
    from analysis.analyze import Effort, analyze
    from sla_ablate.config.machine import parallel_runs
    from sla_ablate.text.telling import short, tell_next

    effort = Effort(options.tokens, options.query_rows, options.stride, sorted(set(options.metric)))
    jobs = options.jobs or parallel_runs(1, 1, "cpu")
    all_measured = analyze(options.sweep, effort, jobs, options.trust, options.data_path)
    tell_next(options.sweep / "analysis", f"figure all {short(options.sweep)}")
    return 0 if all_measured else 1
