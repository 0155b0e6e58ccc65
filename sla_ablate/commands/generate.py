"""Continue a text with the model of a finished run."""

from __future__ import annotations

from pathlib import Path

from sla_ablate.commands._arguments import Parser
from sla_ablate.errors import InputError

USAGE = "RUN [PROMPT]"


def run(arguments: list[str]) -> int:
    """Carry out the command; returns the exit code."""
    parser = Parser("generate")
    parser.add_argument("run", type=Path, help="folder of a finished run, such as runs/demo/baseline-s0-1a2b3c4d")
    parser.add_argument("prompt", nargs="?", default="", help="text to continue (default: the start of a document)")
    parser.add_argument("--max-new-tokens", type=int, default=200, metavar="N", help="stops before at end of text")
    parser.add_argument("--temperature", type=float, default=1.0, help="0: always the likeliest token (default: 1)")
    parser.add_argument("--top-k", type=int, metavar="K", help="draw among the K likeliest tokens only")
    parser.add_argument("--top-p", type=float, metavar="P", help="draw among the likeliest, of probability P together")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    options = parser.parse_args(arguments)
    if not 0 <= options.seed < 2**63:
        raise InputError(f"--seed {options.seed} is not possible; choose 0 to {2**63 - 1}")
    if any("\ud800" <= character <= "\udfff" for character in options.prompt):  # bytes that Python could not decode
        raise InputError(f"the prompt {options.prompt!r} is not UTF-8")
    from sla_ablate.telling import tell_aside, waiting

    with waiting(f"loading the model of {options.run}", tell_aside):
        import torch

        from sla_ablate.runs.trained import load_run

        model, tokenizer = load_run(options.run)
    end_of_text = tokenizer.end_of_text
    prompt = torch.tensor([[end_of_text, *tokenizer.encode_batch([options.prompt])[0].tolist()]])
    with waiting(f"generating up to {options.max_new_tokens} tokens", tell_aside):
        tokens = model.generate(
            prompt,
            options.max_new_tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            generator=torch.Generator().manual_seed(options.seed),
            stop_token=end_of_text,
        )
    print(tokenizer.decode(t for t in tokens[0].tolist() if t != end_of_text))
    return 0
