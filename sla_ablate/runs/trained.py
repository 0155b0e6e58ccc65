"""What a finished run leaves behind, opened for use."""

from __future__ import annotations

from pathlib import Path

from sla_ablate.data.shards import TokenShards, prepare
from sla_ablate.data.tokenizers import Tokenizer, load_tokenizer
from sla_ablate.errors import InputError
from sla_ablate.files import write_atomically
from sla_ablate.model.gpt import GPT
from sla_ablate.runs.identity import identify
from sla_ablate.runs.record import CHECKPOINT, not_done, read_config, read_summary

TOKENIZER = "tokenizer.json"


def save_model(model: GPT, shards: TokenShards, folder: Path) -> None:
    """Write a model and its tokenizer to a folder, each file atomically."""
    model.save(folder)
    write_atomically(folder / TOKENIZER, (shards.folder / TOKENIZER).read_bytes())


def data_of(run: Path) -> TokenShards:
    """The tokens that the run of a folder was trained with and validated on, prepared anew if need be.

    Raises:
        InputError: its configuration names other data, or another model, than it was trained with.
    """
    config, record = read_config(run), read_summary(run)
    shards = prepare(config.data, log=lambda line: None)
    if record is None or identify(config, shards.digest).setting != record["setting"]:
        raise InputError(f"{run / 'config.yaml'} names other data, or another model, than the run was trained with")
    return shards


def load_run(run: Path) -> tuple[GPT, Tokenizer]:
    """The model of a finished run, in evaluation mode, and the tokenizer that it was trained with.

    Raises:
        InputError: the folder is no run's, or the run is not done.
    """
    record = read_summary(run)
    if record is None:
        raise InputError(f"{run} is not a run's folder: it holds no record.json")
    if record["state"] != "done":
        raise not_done(run, record)
    return GPT.load(run / CHECKPOINT).eval(), load_tokenizer(run / CHECKPOINT / TOKENIZER)
