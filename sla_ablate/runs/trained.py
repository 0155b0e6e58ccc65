"""What a finished run leaves behind, opened for use."""

from __future__ import annotations

from pathlib import Path

from sla_ablate.data.shards import TokenShards
from sla_ablate.data.tokenizers import CONFIG, FILE, Tokenizer, load_tokenizer
from sla_ablate.errors import InputError
from sla_ablate.files import replace_file
from sla_ablate.model.formats import checkpoint
from sla_ablate.model.gpt import GPT
from sla_ablate.runs.data import data_of_all
from sla_ablate.runs.digests import AGAIN, check, digests
from sla_ablate.runs.metrics import METRICS
from sla_ablate.runs.record import BEST, CHECKPOINT, Record, existing_summary, not_done

MODEL = ("config.json", "model.safetensors", FILE, CONFIG)
"""The files of a model's folder; the last one is that of a tokenizer of the user's own."""


def save_model(model: GPT, shards: TokenShards, folder: Path) -> None:
    """Write a model and its tokenizer to a folder, each file atomically; one of a run that was removed stays so."""
    checkpoint.save(model, folder)
    for name in (CONFIG, FILE):
        if (shards.folder / name).is_file():
            replace_file(folder / name, (shards.folder / name).read_bytes())


def digests_of(run: Path) -> dict[str, str]:
    """The digests of what a run leaves beside its record and results, for the record of its end."""
    models = [f"{folder}/{name}" for folder in (CHECKPOINT, f"{CHECKPOINT}/{BEST}") for name in MODEL]
    return digests(run, [METRICS, *(path for path in models if (run / path).exists())])


def check_model(run: Path, record: Record) -> None:
    """Hold the files of a finished run's model against the digests in its record, if it has any.

    Raises:
        InputError: one is missing or was changed.
    """
    kept = record.get("digests", {})
    try:
        check(run, {path: kept[path] for name in MODEL if (path := f"{CHECKPOINT}/{name}") in kept})
    except FileNotFoundError as error:
        raise InputError(f"{error.filename} is missing; {AGAIN}") from None


def load_model(run: str | Path) -> GPT:
    """The model of a finished run, in evaluation mode.

    Raises:
        InputError: the folder is no run's, the run is not done, or its model was changed.
    """
    run = Path(run)
    record = existing_summary(run)
    if record["state"] != "done":
        raise not_done(run, record)
    check_model(run, record)
    return GPT.load(run / CHECKPOINT).eval()


def data_of(run: str | Path) -> TokenShards:
    """The tokens that the run of a folder was entered with; see `data_of_all`."""
    (shards,) = data_of_all([Path(run)])
    return shards


def load_run(run: str | Path) -> tuple[GPT, Tokenizer]:
    """The model of a finished run, in evaluation mode, and the tokenizer that it was trained with.

    Raises:
        InputError: as `load_model`, or the tokenizer is of another vocabulary.
    """
    run = Path(run)
    model, tokenizer = load_model(run), load_tokenizer(run / CHECKPOINT / FILE)
    if tokenizer.vocab_size != model.config.vocab_size:
        raise InputError(
            f"{run / CHECKPOINT / FILE} has {tokenizer.vocab_size} tokens, the model {model.config.vocab_size}"
        )
    return model, tokenizer
