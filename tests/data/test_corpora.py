import gzip
import hashlib
import json
import lzma
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from sla_ablate.data import compression as bounds
from sla_ablate.data import formats
from sla_ablate.data.config import DataConfig
from sla_ablate.data.corpora import EMBEDDED, Document, corpus_name, read_documents, source_files
from sla_ablate.errors import InputError

PACK = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda raw: zstandard.compress(raw),
}
ROWS = [("a", "One\r\ntwo\n"), ("b", "日本 🙂 \u2028 x"), ("c", " padded ")]


def as_jsonl(rows):
    return "".join(json.dumps({"id": i, "text": text}, ensure_ascii=False) + "\n" for i, text in rows).encode()


def as_parquet(rows):
    sink = pa.BufferOutputStream()
    table = pa.table({"id": [i for i, _ in rows], "extra": [0] * len(rows), "text": [t for _, t in rows]})
    pq.write_table(table, sink, row_group_size=2)
    return sink.getvalue().to_pybytes()


def read(path, **options):
    return [(d.id, d.text) for d in read_documents(DataConfig(path=str(path), **options))]


@pytest.mark.parametrize("compression", PACK)
@pytest.mark.parametrize("form", ["jsonl", "parquet", "txt"])
def test_every_format_and_compression_gives_the_same_documents(tmp_path, form, compression):
    pack = PACK[compression]
    if form == "txt":
        for i, text in ROWS:
            (tmp_path / f"{i}.txt{compression}").write_bytes(pack(text.encode()))
        assert read(tmp_path) == [(f"{i}.txt{compression}", text) for i, text in ROWS]
    else:
        path = tmp_path / f"corpus.{form}{compression}"
        path.write_bytes(pack(as_jsonl(ROWS) if form == "jsonl" else as_parquet(ROWS)))
        assert read(path) == ROWS
        assert corpus_name(DataConfig(path=str(path))) == "corpus"


@pytest.mark.parametrize("compression", [".gz", ".xz", ".zst"])
def test_concatenated_streams_are_read_to_the_end(tmp_path, compression):
    path = tmp_path / f"c.jsonl{compression}"
    path.write_bytes(PACK[compression](as_jsonl(ROWS[:1])) + PACK[compression](as_jsonl(ROWS[1:])))
    assert read(path) == ROWS


@pytest.mark.parametrize("compression", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"no such stream"])
def test_damaged_compression_is_refused(tmp_path, compression, damage):
    path = tmp_path / f"c.txt{compression}"
    path.write_bytes(damage(PACK[compression](os.urandom(5000).hex().encode())))
    with pytest.raises(InputError, match=f"c.txt{compression} cannot be read"):
        read(path)


def test_embedded_corpus():
    assert hashlib.sha256(EMBEDDED.read_bytes()).hexdigest().startswith("3a78ae7b1db54f20")
    documents = list(read_documents(DataConfig()))
    assert len(documents) == 233
    assert sum(len(d.text.encode()) for d in documents) == 10_761_158
    assert documents[0].id == "1790_george_washington_n"


def test_folder_and_glob_ids_are_relative_paths(tmp_path, monkeypatch):
    for name in ["b.txt", "x/a.txt", "x/y/c.txt", "README.md"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    expected = [(name, f"text of {name}") for name in ["b.txt", "x/a.txt", "x/y/c.txt"]]
    assert read(tmp_path) == expected
    assert read(f"{tmp_path}/**/*.txt") == expected
    assert read(f"{tmp_path}/x/?.txt") == [("a.txt", "text of x/a.txt")]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert source_files(DataConfig(path="~/x")) == [tmp_path / "x/a.txt", tmp_path / "x/y/c.txt"]
    monkeypatch.chdir(tmp_path)
    assert read("x/a.txt") == [("a.txt", "text of x/a.txt")]


def test_fields_are_chosen_and_missing_ids_name_file_and_row(tmp_path):
    rows = [{"body": "one", "url": 7}, {"body": "two"}, {"body": ""}, {"body": " \n"}, {"body": None}]
    path = tmp_path / "c.jsonl"
    path.write_text("\n\n".join(map(json.dumps, rows)))
    expected = [("7", "one"), ("c.jsonl:3", "two")]
    assert read(path, text_field="body", id_field="url") == expected
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet")
    assert read(tmp_path / "c.parquet", text_field="body", id_field="url") == [
        ("7", "one"),
        ("c.parquet:2", "two"),
    ]
    assert read(tmp_path / "c.parquet", text_field="body")[0] == ("c.parquet:1", "one")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.jsonl", b'{"text": "a"}\n{"text": ', r"c\.jsonl:2 is not JSON"),
        ("c.jsonl", b'{"text": "a"}\n["text"]\n', r"c\.jsonl:2 holds a JSON list"),
        ("c.jsonl", b'{"txt": "a", "url": 1}\n', r"c\.jsonl:1: .*'text'.* txt, url; did you mean 'txt'"),
        ("c.jsonl", b'{"text": 3}\n', r"c\.jsonl:1: the text is of type int"),
        ("c.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', r"c\.jsonl:2 is not UTF-8"),
        ("c.jsonl", b'{"text": "\\ud800"}\n', r"c\.jsonl:1 .*surrogate"),
        ("c.txt", b"a\nb\nc\xe9\n", r"c\.txt:3 is not UTF-8"),
        ("c.parquet", b"PAR1 nothing", r"c\.parquet cannot be read: Parquet magic bytes not found"),
        (
            "c.jsonl",
            b'{"text": "a"}\n{"text": "b", "n": %s}' % (b"9" * 5000),
            r"c\.jsonl:2 cannot be read: .*5000 digits",
        ),
        (
            "c.jsonl",
            b'{"text": "a", "n": %s}' % (b"[" * 100_000 + b"]" * 100_000),
            r"c\.jsonl:1 is JSON that is nested more deeply",
        ),
        (
            "c.jsonl",
            b'{"id": 1, "text": "a"}\n{"id": "1", "text": "b"}\n',
            r"id '1' occurs again in .*c\.jsonl",
        ),
    ],
)
def test_bad_content_names_file_and_row(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_parquet_without_the_column_or_with_broken_text(tmp_path):
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"content": ["a"]}), path)
    with pytest.raises(InputError, match=r"c\.parquet: data.text_field 'contents'.*did you mean 'content'"):
        read(path, text_field="contents")
    broken = pa.array([b"ok", b"\xff"]).view(pa.string())
    pq.write_table(pa.table({"text": broken}), path)
    with pytest.raises(InputError, match=r"c\.parquet:2 is not UTF-8"):
        read(path)


def test_parquet_with_a_column_twice_or_a_value_that_python_has_not(tmp_path):
    path = tmp_path / "c.parquet"
    texts = pa.array(["a", "b"])
    pq.write_table(pa.Table.from_arrays([texts, texts], names=["text", "text"]), path)
    with pytest.raises(InputError, match=r"c\.parquet has several columns 'text'"):
        read(path)
    pq.write_table(pa.table({"text": texts, "id": pa.array([0, 10**12], pa.timestamp("s"))}), path)
    with pytest.raises(InputError, match=r"c\.parquet:2 cannot be read"):
        read(path)


def test_a_name_that_is_not_unicode_is_told(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.txt")
    path.write_text("text", encoding="utf-8")
    with pytest.raises(InputError, match=r"the name of '.*caf\\udce9\.txt' is not UTF-8"):
        read(path)


@pytest.mark.parametrize("compression", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("form", ["txt", "jsonl", "parquet"])
def test_what_unpacks_to_far_more_than_its_size_is_refused(tmp_path, monkeypatch, form, compression):
    monkeypatch.setattr(bounds, "_ANY_FILE", 100_000)
    path = tmp_path / f"c.{form}{compression}"
    path.write_bytes(PACK[compression](b"a" * 5_000_000))
    with pytest.raises(
        InputError, match=rf"c\.{form}{compression}: its 0\.0 MB unpack to more than [0-9.]+ MB, which no"
    ):
        read(path)
    path.write_bytes(PACK[compression](os.urandom(100_000).hex().encode()))  # twice its size
    if form == "txt":
        assert len(read(path)[0][1]) == 200_000


@pytest.mark.parametrize("dictionary", [False, True])
def test_parquet_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path, monkeypatch, dictionary):
    monkeypatch.setattr(bounds, "_ANY_FILE", 100_000)
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"text": ["a" * 50_000] * 100}), path, use_dictionary=dictionary, compression="zstd")
    assert path.stat().st_size < 10_000
    with pytest.raises(InputError, match=r"c\.parquet: its .* MB unpack to more than"):
        read(path)


@pytest.mark.parametrize(
    ("bound", "name", "rows", "message"),
    [
        ("_MOST_AT_ONCE", "c.txt", 2, r"c\.txt holds more than 0\.1 MB, the most that is read at once"),
        ("_LONGEST_LINE", "c.jsonl", 3, r"c\.jsonl:3 is longer than 0\.1 MB, the most that a line may have"),
        ("_LARGEST_GROUP", "c.parquet", 3, r"c\.parquet: row group 1 holds 0\.1 MB of text and id, more than the 0\.1"),
    ],
)
def test_what_is_held_in_memory_at_once_is_bounded(tmp_path, monkeypatch, bound, name, rows, message):
    monkeypatch.setattr(formats, bound, 100_000)
    texts = ["a" * 90_000, "b", "c" * 110_000][:rows]
    path = tmp_path / name
    if name.endswith("txt"):
        path.write_text("".join(texts) + "c" * 10_000)
    elif name.endswith("jsonl"):
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    else:
        table = pa.table({"text": texts, "id": ["x", "y", "z"], "other": ["o" * 200_000] * 3})
        pq.write_table(table, path, row_group_size=2)
    with pytest.raises(InputError, match=message):
        read(path)
    monkeypatch.setattr(formats, bound, 120_000)
    assert [text for _, text in read(path)] == (["".join(texts) + "c" * 10_000] if rows == 2 else texts)


def test_links_that_lead_out_of_a_folder_are_not_read(tmp_path):
    corpus, secret = tmp_path / "corpus", tmp_path / "secret"
    for folder in (corpus / "below", secret):
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text(folder.name)
    (corpus / "same.txt").symlink_to("below/a.txt")
    assert read(corpus) == [("below/a.txt", "below"), ("same.txt", "below")]
    (tmp_path / "named.txt").symlink_to(secret / "a.txt")
    assert read(tmp_path / "named.txt") == [("named.txt", "secret")]  # the user's own word
    (corpus / "b.txt").symlink_to(secret / "a.txt")
    for path in (corpus, corpus / "*.txt"):
        with pytest.raises(InputError, match=rf"corpus/b\.txt leads out of {corpus}"):
            read(path)
    (corpus / "b.txt").unlink()
    (corpus / "link").symlink_to(secret)
    with pytest.raises(InputError, match=rf"corpus/link leads out of {corpus}"):
        read(corpus / "*/*.txt")


def test_bad_paths(tmp_path):
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "notes.pdf").write_text("x")
    with pytest.raises(InputError, match=r"does not exist; did you mean '.*/books'"):
        read(tmp_path / "boks" / "a.txt")
    with pytest.raises(InputError, match=r"notes\.pdf' is in no supported format; give \.txt"):
        read(tmp_path / "books" / "notes.pdf")
    for empty in [tmp_path / "books", tmp_path / "books" / "*.txt"]:
        with pytest.raises(InputError, match="holds no supported file"):
            read(empty)


def test_a_path_that_exists_is_that_path_and_no_pattern(tmp_path, monkeypatch):
    for folder in ("v[1]", "v1", "w?", "w1"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(folder, encoding="utf-8")
    (tmp_path / "v1" / "[b].txt").write_text("[b]", encoding="utf-8")
    (tmp_path / "v1" / "b.txt").write_text("b", encoding="utf-8")
    for path in ("v[1]/*.txt", "v[1]", "v[1]/a.txt", "v[1]/?.txt"):
        assert read(tmp_path / path) == [("a.txt", "v[1]")]
    assert read(tmp_path / "w?/*") == [("a.txt", "w?")]
    assert read(tmp_path / "v1/[b].txt") == [("[b].txt", "[b]")]
    assert read(tmp_path / "[w]1/*.txt") == [("w1/a.txt", "w1")]
    monkeypatch.chdir(tmp_path / "v[1]")
    assert read("*.txt") == [("a.txt", "v[1]")]
    with pytest.raises(InputError, match=r"'b\.txt' does not exist; did you mean '.*/v\[1\]/a\.txt'"):
        read("b.txt")


def test_documents_are_streamed(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "first"}\nnot JSON\n')
    assert next(read_documents(DataConfig(path=str(path)))) == Document("c.jsonl:1", "first")
