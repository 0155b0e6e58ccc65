"""Tokenize a corpus, or those of a sweep, ahead of time: data=…, data.path=…"""

from __future__ import annotations

from sla_ablate.commands._arguments import Parser, add_config_dir, reject_flags

USAGE = "[--config-dir DIR] OVERRIDES…"
TAKES_OVERRIDES = True


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    parser = Parser("prepare")
    parser.add_argument("overrides", nargs="*", help="as of train")
    add_config_dir(parser)
    options, flags = parser.parse_known_intermixed_args(arguments)
    reject_flags(flags, "--config-dir DIR, --help")
    from sla_ablate.config.compose import compose
    from sla_ablate.data.classes import TokenCounts
    from sla_ablate.data.shards import prepare

    configs = compose(options.overrides, True, options.config_dir).configs
    for config in {repr((config.data, config.evaluation)): config for config in configs}.values():
        shards = prepare(config.data)
        TokenCounts.of(shards, config.evaluation.tokens)
        for split, counts in shards.manifest["splits"].items():
            print(f"{split}: {counts['documents']:,} documents, {counts['tokens']:,} tokens, {counts['bytes']:,} bytes")
        print(shards.folder)
    return 0
