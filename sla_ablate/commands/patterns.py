"""Show the family of patterns with its costs, or one pattern with its tables, diagram and costs."""

from __future__ import annotations

import re
from pathlib import Path

from sla_ablate.commands._arguments import Parser, add_force, add_hydra_options, reject_flags
from sla_ablate.config.schema import RunConfig
from sla_ablate.data.tokenizers import tokenizer_of
from sla_ablate.errors import InputError
from sla_ablate.model.config import GPTConfig
from sla_ablate.patterns.catalogue import Member

USAGE = "[OVERRIDES…] [--svg FILE [--force]] [--config-dir DIR] [--config-name NAME]"
TAKES_OVERRIDES = True


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    parser = Parser("patterns")
    parser.add_argument("overrides", nargs="*", help="as of train; without a pattern: the whole family")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the pattern as an SVG picture")
    add_force(parser)
    add_hydra_options(parser)
    options, flags = parser.parse_known_intermixed_args(arguments)
    reject_flags(flags, "--svg FILE, --force, --config-dir DIR, --config-name NAME, --version, --help")
    from sla_ablate.config.bounds import check_numbers
    from sla_ablate.config.compose import choices, compose
    from sla_ablate.files import write_atomically
    from sla_ablate.patterns import catalogue, diagram

    sources = (options.config_dir, options.config_name)
    if any(re.match(r"[+~]*(pattern(\.name|\.layer_types)?|experiment)=", override) for override in options.overrides):
        # Runs that differ only in what no pattern depends on, such as the seed, are told once.
        members = [_member(config) for config in compose(options.overrides, True, *sources).configs]
        sections = list(dict.fromkeys(map(catalogue.describe, members)))
        if options.svg:
            drawings = {diagram.svg(member.pattern, member.label) for member in members}
            if len(drawings) > 1:
                raise InputError(f"--svg draws one pattern, not {len(drawings)}; choose it with pattern=NAME")
            if not options.force:
                _check_picture(options.svg)
            write_atomically(options.svg, drawings.pop().encode())
    elif options.svg:
        raise InputError("--svg draws one pattern; choose it with pattern=NAME")
    else:
        names = choices("pattern", options.overrides, *sources)
        overrides = [*options.overrides, f"pattern={','.join(names)}"]
        configs = compose(overrides, True, *sources).configs
        for config in configs:
            check_numbers(config)
        models = [configs[i : i + len(names)] for i in range(0, len(configs), len(names))]
        sections = [
            catalogue.family(_shape(model[0]), dict(zip(names, map(_member_or_error, model), strict=True)))
            for model in models
        ]
    print("\n\n".join(sections), end="")
    return 0


def _check_picture(path: Path) -> None:
    """Make sure that a file, if there is one, is a picture as `--svg` draws them."""
    if path.is_file() and not path.read_bytes().startswith(b"<svg "):
        raise InputError(f"--svg {path} is no picture of a pattern; choose another name or add --force")


def _member(config: RunConfig) -> Member:
    config.check()
    return Member(config.pattern_label(), config.skip_pattern(), _shape(config))


def _member_or_error(config: RunConfig) -> Member | InputError:
    try:
        return _member(config)
    except InputError as error:
        return error


def _shape(config: RunConfig) -> GPTConfig:
    """The model's shape with the vocabulary asked for: no corpus is read."""
    tokenizer = tokenizer_of(config.data)
    return config.gpt_config(tokenizer.vocab_size if tokenizer else config.data.vocab_size)
