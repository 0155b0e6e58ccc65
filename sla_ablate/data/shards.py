"""Token shards: a corpus tokenized once, checked whenever it is opened, memory-mapped by every run.

A cache folder holds `train.bin` and `validation.bin` (each document's tokens, then end of text), the
`tokenizer.json` that made them (of the user's own with `tokenizer_config.json`), `documents.parquet` (one row a
document) and `manifest.json`.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sla_ablate.data.config import BUILT_IN, CORPORA, PARTS, DataConfig
from sla_ablate.data.corpora import (
    Document,
    cache_of,
    corpus_name,
    corpus_root,
    fetch,
    is_fetched,
    made_cache,
    own_reader,
    read_documents,
    source_files,
)
from sla_ablate.data.lock import locked
from sla_ablate.data.progress import Progress
from sla_ablate.data.splits import SPLITS, with_splits
from sla_ablate.data.tokenizers import (
    FILE,
    BytePairTokenizer,
    Tokenizer,
    load_tokenizer,
    token_dtype,
    tokenizer_of,
)
from sla_ablate.errors import InputError, unknown
from sla_ablate.files import naming, read, sha256
from sla_ablate.text.sealed import seal, unseal
from sla_ablate.text.shape import check
from sla_ablate.text.telling import tell, waiting

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
_BATCH_BYTES = 4_000_000
_MOST_BYTES = 2**28
_FILE = {"bytes": range(10**15), "sha256": str}
_SHAPE = {
    "tokenizer_fingerprint": str,
    "dtype": ("uint8", "uint16", "uint32"),
    "files": dict.fromkeys((*(f"{split}.bin" for split in SPLITS), "tokenizer.json", "documents.parquet"), _FILE),
}
"""What is read of a manifest."""


@dataclass(frozen=True)
class TokenShards:
    """A prepared corpus."""

    folder: Path
    manifest: dict[str, Any]
    tokenizer: Tokenizer
    train: np.memmap[Any, Any]
    """Tokens of the training split, [N], read-only."""
    validation: np.memmap[Any, Any]
    """Tokens of the validation split, [N], read-only."""

    @classmethod
    def open(cls, folder: str | Path) -> TokenShards:
        """Check and map a prepared folder.

        Raises:
            InputError: a file is missing, truncated or altered, or of another schema version.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder)
        for name, expected in manifest["files"].items():
            _check_file(folder / name, expected)
        dtype = np.dtype(manifest["dtype"]).newbyteorder("<")
        train, validation = (np.memmap(folder / f"{split}.bin", dtype, mode="r") for split in SPLITS)
        return cls(folder, manifest, load_tokenizer(folder / FILE), train, validation)

    @property
    def digest(self) -> str:
        """The identity of the data, 12 hex digits: the same tokens and tokenizer have the same, anywhere."""
        return _digest(self.manifest)

    def documents(self, split: str) -> pd.DataFrame:
        """One row a document of a split, in shard order.

        Columns: `id`, `split`, `tokens` (without end of text), `bytes` (of UTF-8), `words` (between
        blanks), and `start`, the offset of its first token in the shard.
        """
        import pandas as pd

        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        table = pd.read_parquet(self.folder / "documents.parquet", filters=[("split", "==", split)])
        table["start"] = (table["tokens"] + 1).cumsum() - (table["tokens"] + 1)
        return table

    def scored(self, tokens: int | None) -> pd.DataFrame:
        """What is scored of the validation split, as `documents` says it, with the sizes of what counts of each.

        Documents are taken in an order that their ids alone decide, each with its beginning of at most a sixteenth
        of `tokens`, until there are so many.

        Args:
            tokens: how many to score, at least 16; None: the whole split.
        """
        table = self.documents("validation")
        if tokens is None:
            return table
        draws = [hashlib.sha256(f"validation order of {name}".encode()).digest() for name in table["id"]]
        order = sorted(range(len(table)), key=draws.__getitem__)
        most = np.minimum(table["tokens"].to_numpy(np.int64)[order], tokens // PARTS)
        counted = np.empty_like(most)
        counted[order] = np.clip(tokens - (most.cumsum() - most), 0, most)
        is_cut = counted < table["tokens"]
        table = table.assign(tokens=counted)
        n_bytes = np.array([len(each) for each in self.tokenizer.token_bytes])
        for row in table[is_cut & (counted > 0)].itertuples():
            beginning = self.validation[row.start : row.start + row.tokens]
            table.loc[row.Index, "bytes"] = n_bytes[beginning].sum()
            table.loc[row.Index, "words"] = len(self.tokenizer.decode(beginning).split())
        return table[table["tokens"] > 0].reset_index(drop=True)


def prepare(config: DataConfig, log: Callable[[str], object] = tell) -> TokenShards:
    """Fetch a corpus if need be and tokenize it into its cache folder, or open the folder if that has been done.

    Safe to call from several processes at once: one prepares, the others wait and reuse.

    Raises:
        InputError: an option or the corpus cannot be used, or the folder's contents are damaged.
    """
    _check(config)
    fetch(config, log)
    folder = _cache_folder(config)
    if not folder.exists():
        made_cache(config)
        with locked(folder, log):
            if not folder.exists():
                _prepare_locked(config, folder, log)
    with waiting(f"checking the files of {folder}", log):
        return TokenShards.open(folder)


def prepared_in(cache: str) -> Iterator[tuple[str, Path]]:
    """What a cache holds, without reading any corpus: the digest of each prepared folder, and the folder."""
    for path in sorted(Path(cache).expanduser().glob("*/manifest.json")):
        with contextlib.suppress(InputError, KeyError, TypeError, OSError):  # damaged, or of another version
            yield _digest(_read_manifest(path.parent)), path.parent


def prepared(config: DataConfig) -> TokenShards | None:
    """What `prepare` has made of a corpus; None if it has not been asked to.

    Raises:
        InputError: as `prepare`.
    """
    _check(config)
    if not is_fetched(config):
        return None
    folder = _cache_folder(config)
    return TokenShards.open(folder) if folder.exists() else None


def _check(config: DataConfig) -> None:
    tokenizer_of(config)
    if not 0 < config.validation_fraction < 1:
        raise InputError(
            f"data.validation_fraction {config.validation_fraction} is out of range; choose between 0 and 1"
        )
    if config.corpus not in CORPORA:
        raise unknown("data.corpus", config.corpus, CORPORA)


def _cache_folder(config: DataConfig) -> Path:
    options = asdict(config)
    del options["path"], options["corpus"], options["cache"], options["reader"], options["end_of_text"]
    if tokenizer := tokenizer_of(config):
        del options["vocab_size"]
    is_own = config.tokenizer not in BUILT_IN
    if tokenizer and is_own:
        options["tokenizer"] = tokenizer.fingerprint
    root = str(corpus_root(config))  # document ids are relative to it
    stats = [(str(file), file.stat()) for file in source_files(config)]
    sources = [(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]
    reader = own_reader(config)
    code = [] if reader is None else [config.reader, sha256(Path(inspect.getfile(reader)))]
    key = json.dumps([SCHEMA, options, root, sources, *code], sort_keys=True)
    name = re.sub(r"[^\w.-]+", "-", corpus_name(config), flags=re.ASCII)
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return cache_of(config) / f"{name}-{'own' if is_own else config.tokenizer}-{digest}"


def _prepare_locked(config: DataConfig, folder: Path, log: Callable[[str], object]) -> None:
    """Write beside the target and rename, so that the target is whole or absent."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    partial.mkdir()
    try:
        with naming(partial):
            _write(config, partial, log)
        for path in (*partial.iterdir(), partial):
            _fsync(path)
        partial.rename(folder)
        _fsync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    log(f"prepared {folder}")


def _write(config: DataConfig, folder: Path, log: Callable[[str], object]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tokenizer: Tokenizer = tokenizer_of(config) or BytePairTokenizer.train(
        _training_texts(config, log), config.vocab_size, log
    )
    tokenizer.save(folder / FILE)

    dtype = token_dtype(tokenizer.vocab_size)
    end_of_text = np.array([tokenizer.end_of_text], dtype)
    counts = {split: Counter(documents=0, tokens=0, bytes=0, words=0) for split in SPLITS}
    progress = Progress("tokenizing", log)
    count = pa.int64()
    schema = pa.schema(dict(id=pa.string(), split=pa.string(), tokens=count, bytes=count, words=count))
    with ExitStack() as stack:
        shards = {split: stack.enter_context((folder / f"{split}.bin").open("wb")) for split in SPLITS}
        table = stack.enter_context(pq.ParquetWriter(folder / "documents.parquet", schema))
        is_cut, documents = with_splits(read_documents(config, log), config.validation_fraction)
        for batch in _batches(documents):
            rows = []
            encoded = tokenizer.encode_batch([document.text for _, document in batch])
            for (split, document), tokens in zip(batch, encoded, strict=True):
                size = dict(tokens=len(tokens), bytes=len(document.text.encode()), words=len(document.text.split()))
                shards[split].write(tokens.tobytes() + end_of_text.tobytes())
                counts[split].update(documents=1, **size)
                rows.append(dict(id=document.id, split=split, **size))
                progress.add(size["bytes"])
            table.write_table(pa.Table.from_pylist(rows, schema))
    progress.report()
    _check_splits({split: counts[split]["documents"] for split in SPLITS}, config)
    if is_cut:
        parts = ", ".join(f"{counts[split]['documents']:,} for {split}" for split in SPLITS)
        log(f"one document, cut into parts: {parts}")

    manifest = {
        "schema": SCHEMA,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "vocab_size": tokenizer.vocab_size,
        "end_of_text": tokenizer.end_of_text,
        "dtype": dtype.name,
        "split_by": "place in the single document" if is_cut else "id",
        "splits": counts,
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in sorted(folder.iterdir())
        },
        "sources": [path.relative_to(corpus_root(config)).as_posix() for path in source_files(config)],
    }
    (folder / "manifest.json").write_bytes(seal(manifest))


def _training_texts(config: DataConfig, log: Callable[[str], object]) -> Iterator[str]:
    progress = Progress("reading the training split", log)
    documents: Counter[str] = Counter()
    for split, document in with_splits(read_documents(config), config.validation_fraction)[1]:
        documents[split] += 1
        if split == "train":
            progress.add(len(document.text.encode()))
            yield document.text
    progress.report()
    _check_splits(documents, config)


def _batches(documents: Iterable[tuple[str, Document]]) -> Iterator[list[tuple[str, Document]]]:
    """Documents in lists of some megabytes: enough to tokenize in parallel, little to hold."""
    batch: list[tuple[str, Document]] = []
    size = 0
    for each in documents:
        batch.append(each)
        size += len(each[1].text)
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _check_splits(documents: Mapping[str, int], config: DataConfig) -> None:
    total = sum(documents.values())
    for split in SPLITS:
        if not documents[split]:
            raise InputError(
                f"the {split} split is empty: the corpus has {total} documents and data.validation_fraction "
                f"is {config.validation_fraction}; change the fraction or give more documents"
            )


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    try:
        manifest = unseal(read(folder, path.name, _MOST_BYTES))
        check(manifest, {"schema": int})
        if manifest["schema"] == SCHEMA:
            check(manifest, _SHAPE)
    except FileNotFoundError as error:
        raise _damaged(path, "is missing") from error
    except InputError:
        raise
    except ValueError as error:
        raise _damaged(path, f"is truncated or altered ({error})") from error
    if manifest["schema"] != SCHEMA:
        raise _damaged(path, f"is of schema {manifest['schema']}, not {SCHEMA}")
    return dict(manifest)


def _digest(manifest: Mapping[str, Any]) -> str:
    contents = [
        manifest["tokenizer_fingerprint"],
        *(manifest["files"][f"{split}.bin"]["sha256"] for split in SPLITS),
    ]
    return hashlib.sha256(" ".join(contents).encode()).hexdigest()[:12]


def _check_file(path: Path, expected: Mapping[str, Any]) -> None:
    if not path.is_file():
        raise _damaged(path, "is missing")
    if (size := path.stat().st_size) != expected["bytes"]:
        problem = "is truncated" if size < expected["bytes"] else "was altered"
        raise _damaged(path, f"{problem}: it has {size} bytes, not {expected['bytes']}")
    if sha256(path) != expected["sha256"]:
        raise _damaged(path, "was altered: its sha256 is not the manifest's")


def _damaged(path: Path, problem: str) -> InputError:
    return InputError(f"{path} {problem}; move the folder {path.parent} away to have it prepared again")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
