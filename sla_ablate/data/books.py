"""The corpus `books`: 154 works of English fiction, fetched from their public home and checked by digest."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sla_ablate.data.download import download
from sla_ablate.data.lock import locked
from sla_ablate.errors import InputError
from sla_ablate.files import write_atomically
from sla_ablate.text.telling import waiting

_OTHERWISE = "give a copy of the prepared file by data.path=…/books.jsonl.xz"


@dataclass(frozen=True)
class Books:
    """Where the texts are and what is made of them: JSON lines of `id`, `year` and `text`, in order of id."""

    url: str
    """An archive of one commit of the repository, as GitHub makes it."""
    folders: tuple[str, ...]
    """Those of the repository whose every `.txt` is a work."""
    sha256: str
    """The digest of what is made; the archive has none, as its compression may change."""
    most_bytes: int
    """What the archive may have, and its contents."""

    def file(self, cache: Path) -> Path:
        """The place of the made file in the cache."""
        return cache / "corpora" / f"books-{self.sha256[:12]}" / "books.jsonl"

    def fetch(self, cache: Path, log: Callable[[str], object]) -> None:
        """Make the file, unless it is there; of several processes one does, the others wait.

        Raises:
            InputError: the archive cannot be fetched, is damaged, or gives other bytes.
        """
        path = self.file(cache)
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path, log):
            if path.exists():
                return
            archive = path.with_name("archive.tar.gz")
            if not archive.exists():
                log(f"fetching {self.url}")
                download(self.url, archive, self.most_bytes, _OTHERWISE, log)
            try:
                with waiting(f"making {path}", log):
                    made = self._made_from(archive)
            except (InputError, tarfile.TarError, OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
                archive.unlink()
                raise InputError(f"{self.url} cannot be used: {error}; try again, or {_OTHERWISE}") from error
            write_atomically(path, made)
            archive.unlink()
            log(f"made {path}")

    def _made_from(self, archive: Path) -> bytes:
        texts, years = {}, {}
        with tarfile.open(archive, "r|gz") as members:
            for member in members:
                if member.offset_data + member.size > self.most_bytes:
                    raise InputError(f"its contents are longer than {self.most_bytes:,} bytes")
                name = PurePosixPath(*PurePosixPath(member.name).parts[1:])  # without the folder of the commit
                is_work = name.suffix == ".txt" and str(name.parent) in self.folders
                if member.isfile() and (is_work or str(name) == "corpora.bib"):
                    file = members.extractfile(member)
                    assert file is not None
                    text = file.read().decode().replace("\r\n", "\n").strip()
                    if is_work:
                        texts[str(name.with_suffix(""))] = text
                    else:
                        years = _years(text)
        lines = ({"id": name, "year": years.get(name), "text": text} for name, text in sorted(texts.items()))
        made = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)
        if (found := hashlib.sha256(made).hexdigest()) != self.sha256:
            raise InputError(f"it makes a corpus of sha256 {found}, not {self.sha256}")
        return made


def _years(bibliography: str) -> dict[str, int]:
    """The year of first publication of each work, by `corpus/short title`."""
    years = {}
    for entry in bibliography.split("\n@"):
        field = dict(re.findall(r"^\s*(\w+) = \{+(.*?)\}+,?$", entry, re.MULTILINE))
        for corpus in re.findall(r"\w+", field.get("keywords", "")):
            years[f"{corpus}/{field['shorttitle']}"] = int(field["date"][:4])
    return years


_COMMIT = "64b4590bb73c24ba8994bc23f700a36a1c78866c"
BOOKS = Books(
    url=f"https://codeload.github.com/mahlberg-lab/corpora/tar.gz/{_COMMIT}",
    folders=("19C", "AAW", "ArTs", "ChiLit", "DNov"),
    sha256="6eafececbc8191ae0a13ea0190a7556a2a45374b903ebd2a75914fdfea1e11e7",
    most_bytes=400_000_000,
)
