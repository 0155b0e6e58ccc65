"""Which files a corpus consists of, and its documents, streamed in a fixed order."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sla_ablate.data.books import BOOKS
from sla_ablate.data.compression import COMPRESSIONS
from sla_ablate.data.config import DataConfig
from sla_ablate.data.formats import format_suffix, read_file, read_with
from sla_ablate.errors import InputError, named
from sla_ablate.files import inside

EMBEDDED = Path(__file__).parent / "corpus" / "sotu.jsonl.xz"
_FORMATS = f".txt, .jsonl and .parquet files, plain or {', '.join(COMPRESSIONS)}"


@dataclass(frozen=True)
class Document:
    """One text, the unit that is split, tokenized and scored."""

    id: str
    text: str


def fetch(config: DataConfig, log: Callable[[str], object]) -> None:
    """Bring a corpus that is read by its name, and is not embedded, into the cache.

    Raises:
        InputError: it cannot be fetched or stored.
    """
    if config.path is None and config.corpus == "books":
        BOOKS.fetch(made_cache(config), log)


def is_fetched(config: DataConfig) -> bool:
    """Tell whether there is nothing to `fetch`."""
    return config.path is not None or _path(config).exists()


def cache_of(config: DataConfig) -> Path:
    """The cache's folder, absolute."""
    return Path(config.cache).expanduser().absolute()


def made_cache(config: DataConfig) -> Path:
    """The cache's folder, made if it is not there.

    Raises:
        InputError: it cannot be made.
    """
    folder = cache_of(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"data.cache {config.cache!r} cannot be made: {error.strerror}") from error
    return folder


def read_documents(config: DataConfig, log: Callable[[str], object] = lambda line: None) -> Iterator[Document]:
    """The corpus's documents in order of file and row; blank ones are skipped.

    Args:
        config: of the corpus.
        log: is told how many were skipped.

    Raises:
        InputError: a file or a row of it cannot be used, or two documents have the same id.
    """
    root = corpus_root(config)
    reader = own_reader(config)
    seen: set[str] = set()
    blank = 0
    for path in source_files(config):
        if reader is None:
            rows = read_file(path, _name(path, root), config.text_field, config.id_field)
        else:
            rows = read_with(reader, path)
        for identity, text in rows:
            if not text or text.isspace():
                blank += 1
                continue
            if identity in seen:
                remedy = f"data.id_field ({config.id_field!r}) must name another field"
                if reader is not None:
                    remedy = f"data.reader ({config.reader!r}) must give others"
                raise InputError(f"document id {identity!r} occurs again in {path}; ids must be unique: {remedy}")
            seen.add(identity)
            yield Document(identity, text)
    if blank:
        log(f"{blank:,} row(s) without text left out")


def _name(file: Path, root: Path) -> str:
    """A file's path relative to the root, the same in every locale."""
    try:
        return os.fsencode(file.relative_to(root).as_posix()).decode()
    except UnicodeDecodeError:
        raise InputError(f"the name of {str(file)!r} is not UTF-8; rename it") from None


def own_reader(config: DataConfig) -> Callable[[Path], object] | None:
    """The function of the user's own that reads the files, if there is one.

    Raises:
        InputError: the configuration names something else.
    """
    if config.reader is None:
        return None
    if config.path is None:
        raise InputError("data.reader reads the files of data.path; give it too")
    reader: Callable[[Path], object] = named("data.reader", config.reader)
    if not inspect.isfunction(reader):
        raise InputError(f"data.reader {config.reader!r} is no function; write one of a file's path")
    return reader


def source_files(config: DataConfig) -> list[Path]:
    """The corpus's files, absolute and sorted; in a folder or glob, those that nothing reads are passed over.

    Raises:
        InputError: the path does not exist or holds no supported file, or a link in the folder leads out of it.
    """
    path = _path(config)
    any_format = config.reader is not None
    if path.is_file():
        if format_suffix(path) is None and not any_format:
            raise InputError(f"data.path {config.path!r} is in no supported format; give {_FORMATS}")
        return [path]
    root = corpus_root(config)
    if path == root:
        found = path.rglob("*")
    elif any(mark in (pattern := str(path.relative_to(root))) for mark in "*?["):
        found = root.glob(pattern)
    else:
        raise InputError(f"data.path {config.path!r} does not exist{_nearest(path)}")
    files = sorted({file for file in found if (any_format or format_suffix(file)) and file.is_file()})
    if not files:
        holds = "no file" if any_format else f"no supported file; give {_FORMATS}"
        raise InputError(f"data.path {config.path!r} holds {holds}")
    for path in (*{file.parent for file in files}, *(file for file in files if file.is_symlink())):
        inside(root, str(path.relative_to(root)))
    return files


def corpus_root(config: DataConfig) -> Path:
    """The folder that document ids are relative to: the one given, a file's, or as much of a glob as is there."""
    path = _path(config)
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def corpus_name(config: DataConfig) -> str:
    """A short name of the corpus: its file without suffixes, its folder, or its glob's fixed part."""
    path = _path(config)
    if path.is_file():
        return path.name.removesuffix(format_suffix(path) or "")
    return corpus_root(config).name


def _path(config: DataConfig) -> Path:
    if config.path is not None:
        return Path(config.path).expanduser().absolute()
    return BOOKS.file(cache_of(config)) if config.corpus == "books" else EMBEDDED


def _nearest(path: Path) -> str:
    """A hint at what exists beside the first missing part of a path."""
    while not path.parent.is_dir():
        path = path.parent
    names = [sibling.name for sibling in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    return f"; did you mean {str(path.with_name(near[0]))!r}?" if near else ""
