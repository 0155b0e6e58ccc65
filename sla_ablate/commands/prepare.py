"""Tokenize a corpus ahead of time: data=…, data.path=…"""

from __future__ import annotations

from sla_ablate.commands._arguments import reject_flags

USAGE = "OVERRIDES…"
TAKES_OVERRIDES = True


def run(overrides: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    reject_flags(overrides, "none")
    from sla_ablate.config.compose import compose
    from sla_ablate.data.shards import prepare

    (config,) = compose(overrides).configs
    shards = prepare(config.data)
    for split, counts in shards.manifest["splits"].items():
        print(f"{split}: {counts['documents']:,} documents, {counts['tokens']:,} tokens, {counts['bytes']:,} bytes")
    print(shards.folder)
    return 0
