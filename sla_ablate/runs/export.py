"""A finished run as a Hugging Face folder."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from transformers import PreTrainedTokenizerFast
from transformers.utils import CONFIG_NAME

from sla_ablate.data.tokenizers import CONFIG, END_OF_TEXT, FILE, OwnTokenizer, Tokenizer
from sla_ablate.errors import InputError
from sla_ablate.files import check_free
from sla_ablate.model.formats.hf import CODE, SLAForCausalLM
from sla_ablate.runs.record import CHECKPOINT
from sla_ablate.runs.trained import load_run


def fast_tokenizer(tokenizer: Tokenizer, block_size: int | None = None) -> PreTrainedTokenizerFast:
    """The same tokenizer as transformers has them.

    End of text begins and ends documents and pads them; encoding adds it nowhere, and reads "<|endoftext|>" in a
    text as text. `truncation=True` cuts to `block_size` tokens, what the model reads at most; None: to none.
    """
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token"), END_OF_TEXT)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend,
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=block_size,
        **special,
    )


def _save_tokenizer(tokenizer: Tokenizer, block_size: int, folder: Path) -> None:
    """Write a tokenizer as transformers reads it; the user's own as it came, but for the length that it cuts to."""
    if not isinstance(tokenizer, OwnTokenizer):
        fast_tokenizer(tokenizer, block_size).save_pretrained(folder)
        return
    tokenizer.save(folder / FILE)
    config = json.loads((folder / CONFIG).read_bytes())
    (folder / CONFIG).write_text(json.dumps({**config, "model_max_length": block_size}, indent=2), encoding="utf-8")


def export(run: Path, out: Path, force: bool = False) -> None:
    """Write the model and tokenizer of a finished run to a Hugging Face folder.

    `AutoModelForCausalLM.from_pretrained` reads it once `sla_ablate.hf` is imported. Tools that import nothing of ours
    must be told `trust_remote_code`. Neither reads a folder without config.json, which is put there last.

    Args:
        run: the folder of the run.
        out: the folder to write to, in which an earlier export is replaced.
        force: write to it even if it holds something else.

    Raises:
        InputError: the folder is no finished run's, or `out` cannot be made, holds something else or what is read.
    """
    if out.resolve().is_relative_to((run / CHECKPOINT).resolve()):
        raise InputError(f"{out} is where the model of {run} is read from; choose another folder")
    is_export = (out / CODE).is_file()  # the first to come; a run's own folder of its model has all the other names
    check_free(out, lambda name: is_export, force)
    gpt, tokenizer = load_run(run)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be made: {error.strerror}") from None
    model = SLAForCausalLM.from_gpt(gpt)
    for token in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.generation_config, token, tokenizer.end_of_text)
    with tempfile.TemporaryDirectory(dir=out, prefix=".export-") as temporary:
        unfinished = Path(temporary)
        try:
            model.save_pretrained(unfinished)
            _save_tokenizer(tokenizer, gpt.config.block_size, unfinished)
        except Exception as error:  # of a full disk, each library has its own
            raise InputError(f"{out} cannot be written: {' '.join(str(error).split())}") from error
        (out / CONFIG_NAME).unlink(missing_ok=True)  # of an export that this one replaces
        for file in sorted(unfinished.iterdir(), key=lambda file: (file.name != CODE, file.name == CONFIG_NAME)):
            file.replace(out / file.name)
