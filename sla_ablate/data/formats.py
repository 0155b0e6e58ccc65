"""The file formats of a corpus: one file in, its (id, text) rows out, streamed."""

from __future__ import annotations

import io
import json
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sla_ablate.data.compression import COMPRESSIONS, Allowance, open_unpacked
from sla_ablate.errors import InputError, unknown
from sla_ablate.text.words import size

SUFFIXES = tuple(
    suffix + compression for suffix in (".txt", ".jsonl", ".parquet") for compression in ("", *COMPRESSIONS)
)


_MOST_AT_ONCE = 10**9
"""Bytes of a text file, or of a Parquet file in another: it is held in memory as a whole."""
_LONGEST_LINE = 2**28
"""Bytes of a JSON line."""
_LARGEST_GROUP = 4 * 10**9
"""Bytes of what is read of a Parquet file's group of rows."""


def format_suffix(path: Path) -> str | None:
    """The one of `SUFFIXES` that a file's name ends with, or None."""
    return next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), None)


def read_file(path: Path, name: str, text_field: str, id_field: str) -> Iterator[tuple[str, str]]:
    """The (id, text) rows of one file, in its order.

    A row without an id is called `<name>:<row>`, counted from 1; a text file is one row called `name`.

    Raises:
        InputError: the file is damaged, a row is malformed or lacks the text field, or text is not
            Unicode. The message starts with the file and, where there is one, the row.
    """
    suffix = format_suffix(path) or ""
    with _naming(str(path)), open_unpacked(path) as stream:
        if suffix.startswith(".txt"):
            yield name, _decode(_whole(stream, path), path)
        elif suffix.startswith(".jsonl"):
            yield from _json_rows(stream, path, name, text_field, id_field)
        else:
            # Parquet is read from its end, which a compressed stream cannot do.
            source = stream if suffix == ".parquet" else io.BytesIO(_whole(stream, path))
            yield from _parquet_rows(source, path, name, text_field, id_field)


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """Have whatever the libraries that read a file or a row raise say which it was."""
    try:
        yield
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not UTF-8: {error.reason}") from error
    except Exception as error:
        raise InputError(f"{where} cannot be read: {_told(error)}") from error


def _told(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _whole(stream: io.BufferedIOBase, path: Path) -> bytearray:
    raw = bytearray()
    while chunk := stream.read(1 << 20):
        raw += chunk
        if len(raw) > _MOST_AT_ONCE:
            raise InputError(
                f"{path} holds more than {size(_MOST_AT_ONCE)}, the most that is read at once; cut it into several"
            )
    return raw


def _decode(raw: bytes | bytearray, path: Path, first_line: int = 1) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = first_line + raw.count(b"\n", 0, error.start)
        raise InputError(f"{path}:{line} is not UTF-8: byte {raw[error.start]:#04x} {error.reason}") from error


def _json_rows(
    stream: io.BufferedIOBase, path: Path, name: str, text_field: str, id_field: str
) -> Iterator[tuple[str, str]]:
    for number, raw in enumerate(iter(lambda: stream.readline(_LONGEST_LINE + 1), b""), start=1):
        where = f"{path}:{number}"
        if len(raw) > _LONGEST_LINE:
            raise InputError(f"{where} is longer than {size(_LONGEST_LINE)}, the most that a line may have")
        if raw.isspace():
            continue
        line = _decode(raw, path, number)
        with _naming(where):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{where} is not JSON: {error.msg} at column {error.colno}") from error
            except RecursionError as error:
                raise InputError(f"{where} is JSON that is nested more deeply than Python reads") from error
            if not isinstance(row, dict):
                raise InputError(f"{where} holds a JSON {type(row).__name__}; each line must be an object")
            if text_field not in row:
                raise unknown(f"{where}: data.text_field", text_field, row)
            identity, text = _row(row[text_field], row.get(id_field), where, f"{name}:{number}")
        _check_unicode(identity + text, where)
        yield identity, text


def read_with(reader: Callable[[Path], object], path: Path) -> Iterator[tuple[str, str]]:
    """What a reader of the user's own makes of a file, if it is pairs of an id and a text.

    Raises:
        InputError: it is something else, text is not Unicode, or the reader raises an exception.
    """
    number = 0
    try:
        rows = reader(path)
        if not isinstance(rows, Iterable):
            raise InputError(f"{path}: data.reader returned a {type(rows).__name__}; it must give pairs (id, text)")
        for row in rows:
            number += 1
            match row:
                case (str(identity), str(text)):
                    _check_unicode(identity + text, f"{path}:{number}")
                    yield identity, text
                case _:
                    raise InputError(f"{path}:{number}: data.reader gave {row!r:.60}; it must give a pair (id, text)")
    except InputError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raised = f"{type(error).__name__}: {_told(error)} ({Path(place.filename).name}, line {place.lineno})"
        raise InputError(f"{path}: data.reader raises after {number} row(s) {raised}") from error


def _check_unicode(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where} holds half of a surrogate pair, which is not Unicode text") from error


def _parquet_rows(
    source: io.BufferedIOBase, path: Path, name: str, text_field: str, id_field: str
) -> Iterator[tuple[str, str]]:
    import pyarrow
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(source)
    schema, metadata = file.schema_arrow, file.metadata
    if text_field not in schema.names:
        raise unknown(f"{path}: data.text_field", text_field, schema.names)
    columns = [field for field in (text_field, id_field) if field in schema.names]
    for column in columns:
        if schema.names.count(column) > 1:
            raise InputError(f"{path} has several columns {column!r}; name another, or leave one in the file")
    claimed = Allowance(path)
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        claimed.take(group.total_byte_size)
        chunks = map(group.column, range(group.num_columns))
        held = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in columns)
        if held > _LARGEST_GROUP:
            raise InputError(
                f"{path}: row group {index} holds {size(held)} of {' and '.join(columns)}, more than the "
                f"{size(_LARGEST_GROUP)} that are read at once; write it with smaller groups"
            )
    # A text that is stored once for thousands of rows must not be copied for all of them at once.
    strings = [c for c in columns if schema.field(c).type in (pyarrow.string(), pyarrow.large_string())]
    file = pyarrow.parquet.ParquetFile(source, metadata=metadata, read_dictionary=strings)
    read = Allowance(path)
    number = 0
    for batch in file.iter_batches(batch_size=1024, columns=columns):
        texts = batch.column(text_field)
        ids = batch.column(id_field) if id_field in columns else pyarrow.nulls(len(texts))
        for text, identity in zip(texts, ids, strict=True):
            number += 1
            where = f"{path}:{number}"
            with _naming(where):
                row = _row(text.as_py(), identity.as_py(), where, f"{name}:{number}")
            read.take(sum(map(len, row)))
            yield row


def _row(text: Any, identity: Any, where: str, fallback: str) -> tuple[str, str]:
    """One row's id and text; a null text is an empty one."""
    if not isinstance(text, str | None):
        raise InputError(f"{where}: the text is of type {type(text).__name__}; it must be a string")
    return fallback if identity is None else str(identity), text or ""
