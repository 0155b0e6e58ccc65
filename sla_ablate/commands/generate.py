"""Continue a text with the model of a finished run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sla_ablate.bounds import Bounds
from sla_ablate.commands._arguments import Parser, check_no_run, number
from sla_ablate.errors import InputError
from sla_ablate.text import escape

USAGE = "RUN [PROMPT]"


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    parser = Parser("generate")
    parser.add_argument("run", type=Path, help="folder of a finished run, such as runs/demo/baseline-s0-1a2b3c4d")
    parser.add_argument("prompt", nargs="?", default="", help="text to continue (default: the start of a document)")
    parser.add_argument(
        "--max-new-tokens", type=number(Bounds(0, 10**7)), default=200, metavar="N", help="stops before at end of text"
    )
    parser.add_argument(
        "--temperature", type=number(Bounds(0.0, 1e30)), default=1.0, help="0: always the likeliest token (default: 1)"
    )
    parser.add_argument(
        "--top-k", type=number(Bounds(1, 2**31 - 1)), metavar="K", help="draw among the K likeliest tokens only"
    )
    parser.add_argument(
        "--top-p",
        type=number(Bounds(0.0, 1.0, "(]")),
        metavar="P",
        help="draw among the likeliest, of probability P together",
    )
    parser.add_argument("--seed", type=number(Bounds(0, 2**63 - 1)), default=0, help="of the draws (default: 0)")
    options = parser.parse_intermixed_args(arguments)  # so that -- may stand after options too
    prompt = _utf8(options.prompt)
    if prompt:
        check_no_run("PROMPT", prompt)
    from sla_ablate.text.telling import tell_aside, waiting

    with waiting(f"loading the model of {options.run}", tell_aside):
        import torch

        from sla_ablate.runs.trained import load_run

        model, tokenizer = load_run(options.run)
    end_of_text = tokenizer.end_of_text
    ids = torch.tensor([[end_of_text, *tokenizer.encode_batch([prompt])[0].tolist()]])
    with waiting(f"generating up to {options.max_new_tokens} tokens", tell_aside):
        tokens = model.generate(
            ids,
            options.max_new_tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            generator=torch.Generator().manual_seed(options.seed),
            stop_token=end_of_text,
        )
    text = tokenizer.decode(t for t in tokens[0].tolist() if t != end_of_text)
    print(escape.lines(text) if sys.stdout.isatty() else text)
    return 0


def _utf8(text: str) -> str:
    """An argument whose bytes the locale's encoding may lack, as it does in LC_ALL=C."""
    if not any("\ud800" <= character <= "\udfff" for character in text):
        return text
    try:
        return os.fsencode(text).decode()
    except UnicodeError:
        raise InputError(f"the prompt {text!r} is not UTF-8") from None
