"""What a finished run leaves behind, opened for use."""

from __future__ import annotations

from pathlib import Path

from sla_ablate.data.shards import TokenShards
from sla_ablate.data.tokenizers import CONFIG, FILE, Tokenizer, load_tokenizer
from sla_ablate.files import write_atomically
from sla_ablate.model.gpt import GPT
from sla_ablate.runs.data import data_of_all
from sla_ablate.runs.record import CHECKPOINT, existing_summary, not_done

TOKENIZER = FILE


def save_model(model: GPT, shards: TokenShards, folder: Path) -> None:
    """Write a model and its tokenizer to a folder, each file atomically."""
    model.save(folder)
    for name in (CONFIG, TOKENIZER):
        if (shards.folder / name).is_file():
            write_atomically(folder / name, (shards.folder / name).read_bytes())


def data_of(run: Path) -> TokenShards:
    """The tokens that the run of a folder was entered with; see `data_of_all`."""
    (shards,) = data_of_all([run])
    return shards


def load_run(run: Path) -> tuple[GPT, Tokenizer]:
    """The model of a finished run, in evaluation mode, and the tokenizer that it was trained with.

    Raises:
        InputError: the folder is no run's, or the run is not done.
    """
    record = existing_summary(run)
    if record["state"] != "done":
        raise not_done(run, record)
    return GPT.load(run / CHECKPOINT).eval(), load_tokenizer(run / CHECKPOINT / TOKENIZER)
