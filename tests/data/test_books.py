"""The books corpus, fetched from a server of the tests' own that has a small archive in the same layout."""

import hashlib
import io
import lzma
import tarfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from sla_ablate.config.compose import compose
from sla_ablate.data import corpora
from sla_ablate.data.books import Books
from sla_ablate.data.config import DataConfig
from sla_ablate.data.shards import prepare
from sla_ablate.errors import InputError

BIBLIOGRAPHY = """
@book{bell_grey_1847,
	title = {Agnes Grey},
	shorttitle = {grey},
	date = {1847-12},
	keywords = {{19C}}
}

@book{abbott_flatland_1884,
	keywords = {{ChiLit}},
	date = {1884},
	title = {Flatland: {A} Romance},
	shorttitle = {Flat}
}
"""
FILES = {
    "corpora.bib": BIBLIOGRAPHY,
    "README.md": "no work",
    "ChiLit/Flat.txt": "\r\nI call our world Flatland,\r\n“not because”\r\n we call it so\n\n",
    "19C/grey.txt": " All true histories\tcontain instruction ",
    "19C/more/deep.txt": "no work: too deep",
    "DE19/grey.txt": "kein englisches",
}
MADE = (
    '{"id": "19C/grey", "year": 1847, "text": "All true histories\\tcontain instruction"}\n'
    '{"id": "ChiLit/Flat", "year": 1884, "text": "I call our world Flatland,\\n“not because”\\n we call it so"}\n'
).encode()


def packed(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            raw = text.encode()
            entry = tarfile.TarInfo(f"corpora-0123456/{name}")
            entry.size = len(raw)
            archive.addfile(entry, io.BytesIO(raw))
    return buffer.getvalue()


@pytest.fixture
def home():
    """The public home: what it serves, what it was asked for, after how many bytes it breaks off."""
    state = SimpleNamespace(content=packed(FILES), asked=[], breaks_off=None, knows_ranges=True)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            state.asked.append(asked)
            first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.knows_ranges else 0
            if first >= len(state.content):
                self.send_error(416 if asked else 404)
                return
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(state.content) - first))
            self.end_headers()
            self.wfile.write(state.content[first : state.breaks_off])

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        state.books = Books(
            url=f"http://127.0.0.1:{server.server_port}/corpora",
            folders=("19C", "ChiLit"),
            sha256=hashlib.sha256(MADE).hexdigest(),
            most_bytes=100_000,
        )
        yield state
        server.shutdown()


def left_in(cache):
    return {path.name for path in cache.rglob("*") if path.is_file()} - {"books.jsonl.lock"}


def test_the_archive_becomes_exactly_these_bytes_once(home, tmp_path, lines):
    for _ in range(2):
        home.books.fetch(tmp_path, lines.append)
    assert home.books.file(tmp_path).read_bytes() == MADE
    assert home.asked == [None]
    assert left_in(tmp_path) == {"books.jsonl"}
    assert lines[0] == f"fetching {home.books.url}" and lines[1].startswith("downloading 0.0 MB: 0.0 MB, ")


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_what_an_interruption_left_is_gone_on_with(home, tmp_path, lines, knows_ranges):
    home.breaks_off = 200
    home.knows_ranges = knows_ranges
    with pytest.raises(InputError, match=r"cannot be fetched: .*; try again to go on from there, or .*data\.path="):
        home.books.fetch(tmp_path, lines.append)
    assert left_in(tmp_path) == {"archive.tar.gz.part"}
    home.breaks_off = None
    home.books.fetch(tmp_path, lines.append)
    assert home.asked == [None, "bytes=200-"]
    assert home.books.file(tmp_path).read_bytes() == MADE
    assert ("goes on after 0.0 MB" in lines) == knows_ranges


def test_an_interruption_after_the_last_byte(home, tmp_path):
    part = home.books.file(tmp_path).with_name("archive.tar.gz.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(home.content)
    home.books.fetch(tmp_path, str)
    assert home.asked == [f"bytes={len(home.content)}-"]
    assert home.books.file(tmp_path).read_bytes() == MADE


@pytest.mark.parametrize(
    ("content", "changes", "message"),
    [
        (packed(FILES), {"sha256": "0" * 64}, f"makes a corpus of sha256 {hashlib.sha256(MADE).hexdigest()}, not 000"),
        (packed(FILES)[:-100], {}, "cannot be used: "),
        (b"<html>", {}, "cannot be used: "),
        (packed({**FILES, "README.md": "x" * 100_000}), {}, "contents are longer than 100,000 bytes"),
        (bytes(100_001), {}, "is longer than the 100,000 bytes"),
    ],
)
def test_what_is_wrong_with_an_archive_is_one_line_and_leaves_nothing(home, tmp_path, content, changes, message):
    home.content = content
    with pytest.raises(InputError, match=message) as caught:
        replace(home.books, **changes).fetch(tmp_path, str)
    assert "\n" not in str(caught.value) and home.books.url in str(caught.value)
    assert not left_in(tmp_path)


def test_a_server_that_is_not_there_or_has_no_such_file(home, tmp_path):
    nowhere = replace(home.books, url="http://127.0.0.1:9/corpora")
    with pytest.raises(InputError, match=r"127\.0\.0\.1:9/corpora cannot be fetched: .*refused; .*data\.path=…/books"):
        nowhere.fetch(tmp_path, str)
    home.content = b""
    with pytest.raises(InputError, match="cannot be fetched: HTTP Error 404"):
        home.books.fetch(tmp_path, str)


def test_fetched_or_given_the_data_are_the_same(home, tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "BOOKS", home.books)
    options = {"tokenizer": "bytes", "validation_fraction": 0.6, "cache": str(tmp_path / "cache")}
    fetched = prepare(DataConfig(corpus="books", **options), log=str)
    (tmp_path / "books.jsonl.xz").write_bytes(lzma.compress(MADE))
    given = prepare(DataConfig(str(tmp_path / "books.jsonl.xz"), corpus="books", **options), log=str)
    assert given.digest == fetched.digest
    assert fetched.folder.name.startswith("books-bytes-")
    assert prepare(DataConfig(corpus="books", **options), log=str).folder == fetched.folder
    assert len(home.asked) == 1
    for shards in (fetched, given):
        ids = [name for split in ("train", "validation") for name in shards.documents(split)["id"]]
        assert sorted(ids) == ["19C/grey", "ChiLit/Flat"]


def test_names_of_corpora(tmp_path):
    with pytest.raises(
        InputError, match=r"data\.corpus 'boks' is unknown; choose from sotu, books; did you mean 'books'"
    ):
        prepare(DataConfig(corpus="boks", cache=str(tmp_path / "cache")))
    assert not (tmp_path / "cache").exists()
    (config,) = compose(["data=books", "data.path=elsewhere"]).configs
    assert (config.data.corpus, config.data.path) == ("books", str(Path("elsewhere").absolute()))
    assert config.evaluation.tokens == 2**18
    (config,) = compose([]).configs
    assert (config.data.corpus, config.evaluation.tokens) == ("sotu", None)
