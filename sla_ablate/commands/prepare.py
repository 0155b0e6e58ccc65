"""Tokenize a corpus, or those of a sweep, ahead of time: data=…, data.path=…"""

from __future__ import annotations

import shlex

from sla_ablate.commands._arguments import Parser, add_hydra_options, reject_flags

USAGE = "[--config-dir DIR] [--config-name NAME] OVERRIDES…"
TAKES_OVERRIDES = True


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    parser = Parser("prepare")
    parser.add_argument("overrides", nargs="*", help="as of train")
    add_hydra_options(parser)
    options, flags = parser.parse_known_intermixed_args(arguments)
    reject_flags(flags, "--config-dir DIR, --config-name NAME, --version, --help")
    from sla_ablate.config.bounds import check_numbers
    from sla_ablate.config.compose import compose
    from sla_ablate.data.classes import TokenCounts
    from sla_ablate.data.shards import prepare
    from sla_ablate.text.telling import tell, tell_next

    configs = compose(options.overrides, True, options.config_dir, options.config_name).configs
    for config in configs:
        check_numbers(config)
    for config in {repr((config.data, config.evaluation)): config for config in configs}.values():
        shards = prepare(config.data)
        TokenCounts.of(shards, config.evaluation.tokens)
        for split, counts in shards.manifest["splits"].items():
            tell(f"{split}: {counts['documents']:,} documents, {counts['tokens']:,} tokens, {counts['bytes']:,} bytes")
        tell(str(shards.folder))
    tell_next(shards.folder, shlex.join(["train", *options.overrides]))
    return 0
