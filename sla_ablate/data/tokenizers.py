"""Text to token ids and back: byte-level BPE, raw bytes and the user's own tokenizers behind one interface.

The first two are lossless for any Unicode text, and in both end of text is the last id, which no text encodes to.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sla_ablate.data.config import BUILT_IN, DataConfig
from sla_ablate.data.progress import waiting
from sla_ablate.errors import InputError, unknown

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
"""Files of a tokenizer, as transformers names them; the second is there for the user's own only."""
END_OF_TEXT = "<|endoftext|>"
USUAL_ENDS = (END_OF_TEXT, "</s>", "<|end_of_text|>", "<eos>", "[EOS]", "<|eos|>", "[SEP]")
"""What the token that ends a document is usually called, where nothing says so."""
LONGEST_WORD = 3000
"""Bytes of a word that BPE learns from at once: its time grows with the square of a word's length."""
MOST_BYTES = 2**28
"""Bytes of a tokenizer's file, more than any with as many tokens as are possible has."""
_LONG_BLANK = re.compile(rf"\s{{{LONGEST_WORD // 4}}}")

# The tokenizers library encodes on all cores; a forked child has no such threads and would wait for them for
# ever. Left to itself the library notices, before 0.23 with a warning. So: parallel here, serial in a child.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.register_at_fork(after_in_child=lambda: os.environ.__setitem__("TOKENIZERS_PARALLELISM", "false"))


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest of little-endian uint16 and uint32 that holds every id."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


class Tokenizer(ABC):
    """What every tokenizer offers."""

    vocab_size: int
    """Number of ids, end of text included."""

    @property
    def end_of_text(self) -> int:
        """The id that separates documents."""
        return self.vocab_size - 1

    @property
    def end_of_text_token(self) -> str:
        """What that id is called."""
        return END_OF_TEXT

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of what determines the ids, independent of the file's layout."""
        return hashlib.sha256(json.dumps(self._definition(), sort_keys=True).encode()).hexdigest()

    @abstractmethod
    def encode_batch(self, texts: list[str]) -> list[npt.NDArray[Any]]:
        """The ids [T] of each text, in `token_dtype`, without end of text."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids [T]; end of text reads as it is called, broken UTF-8 gives U+FFFD."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write a JSON file that `load_tokenizer` reads, of the user's own with `CONFIG` beside it."""

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """The bytes of each id's text, in order of id; none for end of text."""
        names = _byte_names()
        pieces = (self.backend.id_to_token(i) for i in range(self.end_of_text))
        return [*(bytes(map(names.__getitem__, piece)) for piece in pieces), b""]

    @property
    @abstractmethod
    def backend(self) -> Any:
        """The same as a tokenizer of the `tokenizers` library."""

    @abstractmethod
    def _definition(self) -> dict[str, Any]: ...


class ByteTokenizer(Tokenizer):
    """UTF-8 bytes as ids 0 to 255."""

    vocab_size = 257

    def encode_batch(self, texts: list[str]) -> list[npt.NDArray[Any]]:
        """See `Tokenizer`."""
        dtype = token_dtype(self.vocab_size)
        return [np.frombuffer(text.encode(), dtype=np.uint8).astype(dtype) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """See `Tokenizer`."""
        pieces = (END_OF_TEXT.encode() if i == self.end_of_text else bytes([i]) for i in ids)
        return b"".join(pieces).decode(errors="replace")

    def save(self, path: Path) -> None:
        """See `Tokenizer`."""
        path.write_text(json.dumps(self._definition()), encoding="utf-8")

    @property
    def backend(self) -> Any:
        """BPE without merges over the names that the library has for bytes."""
        return _byte_level(_byte_names(), [])

    def _definition(self) -> dict[str, Any]:
        return {"type": "bytes"}


class BytePairTokenizer(Tokenizer):
    """Byte-level BPE with GPT-2's pre-tokenizer; its file is in the Hugging Face tokenizers format."""

    def __init__(self, backend: Any) -> None:
        """Wrap a `tokenizers.Tokenizer` whose last id is end of text."""
        backend.encode_special_tokens = True  # "<|endoftext|>" in a text is text; not kept in the file
        self._backend = backend
        self.vocab_size = backend.get_vocab_size()

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, log: Callable[[str], object] = lambda line: None
    ) -> BytePairTokenizer:
        """Learn a vocabulary of exactly `vocab_size` tokens; the same texts always give the same one.

        Args:
            texts: to learn from, of which a word longer than `LONGEST_WORD` bytes is learnt from in pieces.
            vocab_size: end of text included.
            log: is told what is done.

        Raises:
            InputError: fewer tokens than the 256 bytes and end of text, or more than the texts allow.
        """
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, pre_tokenizers, trainers

        minimum = ByteTokenizer.vocab_size
        if vocab_size < minimum:
            raise InputError(f"data.vocab_size {vocab_size} is too small; a BPE vocabulary has at least {minimum}")
        backend = Backend(models.BPE())
        words = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.FixedLength(LONGEST_WORD)])
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 1,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        with ExitStack() as learning:

            def until_read() -> Iterator[str]:
                too_long = 0
                for text in texts:
                    if _may_have_long_words(text):
                        too_long += sum(len(word) > LONGEST_WORD for word, _ in words.pre_tokenize_str(text))
                    yield text
                if too_long:
                    log(f"{too_long:,} word(s) of more than {LONGEST_WORD:,} bytes: learnt from in pieces of that many")
                learning.enter_context(waiting(f"learning {vocab_size:,} tokens", log))

            backend.train_from_iterator(until_read(), trainer)
        backend.pre_tokenizer = words
        backend.add_special_tokens([END_OF_TEXT])
        if backend.get_vocab_size() < vocab_size:
            raise InputError(
                f"data.vocab_size {vocab_size} is more than the training text allows; "
                f"choose from {minimum} to {backend.get_vocab_size()}"
            )
        return cls(backend)

    def encode_batch(self, texts: list[str]) -> list[npt.NDArray[Any]]:
        """See `Tokenizer`."""
        dtype = token_dtype(self.vocab_size)
        return [np.array(encoding.ids, dtype=dtype) for encoding in self._backend.encode_batch_fast(texts)]

    def decode(self, ids: Iterable[int]) -> str:
        """See `Tokenizer`."""
        text: str = self._backend.decode([int(i) for i in ids], skip_special_tokens=False)
        return text

    def save(self, path: Path) -> None:
        """See `Tokenizer`."""
        path.write_text(self._backend.to_str(pretty=True), encoding="utf-8")

    @property
    def backend(self) -> Any:
        """See `Tokenizer`."""
        return self._backend

    def _definition(self) -> dict[str, Any]:
        model = json.loads(self._backend.to_str())["model"]
        return {"type": "bpe", "vocab": model["vocab"], "merges": model["merges"]}


class OwnTokenizer(Tokenizer):
    """A tokenizer of the user's own, kept as it came; its ids are those of the `tokenizers` library.

    Nothing is added to a text, none is cut off, and what looks like a special token in it is text, unless the model
    itself has such a piece, as Unigram's have.

    Args:
        definition: the contents of its `tokenizer.json`.
        config: those of its `tokenizer_config.json`; `eos_token` is the token that ends a document.

    Raises:
        InputError: it has no such token.
        Exception: the library's own, for what is no tokenizer.
    """

    def __init__(self, definition: bytes, config: Mapping[str, Any]) -> None:
        from tokenizers import Tokenizer as Backend

        self._file, self._config = definition, dict(config)
        try:
            self._backend = Backend.from_str(definition.decode())
        except BaseException as error:
            if type(error).__name__ == "PanicException":  # of a part in Rust, such as one for regular expressions
                raise ValueError(str(error)) from None
            raise
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True
        ids = self._backend.get_vocab(with_added_tokens=True)
        self.vocab_size = 1 + max(ids.values())
        if self.end_of_text_token not in ids:
            near = [name for name in USUAL_ENDS if name in ids] or sorted(ids, key=len)[-5:]
            raise unknown("data.end_of_text", self.end_of_text_token, near)
        self._end_of_text: int = ids[self.end_of_text_token]

    @classmethod
    def read(cls, path: Path, end_of_text: str | None = None) -> OwnTokenizer:
        """The tokenizer of a file in the library's format, or of a folder as transformers saves it.

        Args:
            path: of the file or the folder.
            end_of_text: the token that ends a document; None: what the folder calls `eos_token`, else the first of
                `USUAL_ENDS` that there is.

        Raises:
            InputError: it cannot be read, or does not say which token ends a document.
        """
        file = path / FILE if path.is_dir() else path
        try:
            definition = file.read_bytes()
            config: dict[str, Any] = {}
            for beside in (path / "special_tokens_map.json", path / CONFIG):
                if beside.is_file():
                    config |= json.loads(beside.read_bytes())
            contents = json.loads(definition)
            names = {token["content"] for token in contents["added_tokens"] or []}
            names |= {piece if isinstance(piece, str) else piece[0] for piece in contents["model"]["vocab"]}
        except FileNotFoundError:
            raise InputError(f"data.tokenizer: there is no {file}; save it with transformers' AutoTokenizer") from None
        except OSError as error:
            raise InputError(f"data.tokenizer: {file} cannot be read: {error.strerror}") from None
        except (ValueError, TypeError, LookupError, AttributeError):
            raise InputError(
                f"data.tokenizer: {file} is no tokenizer in the format of the tokenizers library"
            ) from None
        usual = (name for name in (_name(config.get("eos_token")), *USUAL_ENDS) if name in names)
        end = end_of_text or next(usual, None)
        if end is None:
            raise InputError(f"data.tokenizer: {file} does not say which token ends a document; add data.end_of_text=…")
        try:
            return cls(definition, {"tokenizer_class": "PreTrainedTokenizerFast", **config, "eos_token": end})
        except InputError:
            raise
        except Exception as error:  # the library's own are plain ones
            raise InputError(f"data.tokenizer: {file} is no tokenizer: {error}") from None

    @property
    def end_of_text(self) -> int:
        """See `Tokenizer`."""
        return self._end_of_text

    @property
    def end_of_text_token(self) -> str:
        """See `Tokenizer`."""
        return str(self._config["eos_token"])

    def encode_batch(self, texts: list[str]) -> list[npt.NDArray[Any]]:
        """See `Tokenizer`."""
        dtype = token_dtype(self.vocab_size)
        encoded = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, dtype=dtype) for encoding in encoded]

    def decode(self, ids: Iterable[int]) -> str:
        """See `Tokenizer`."""
        text: str = self._backend.decode([int(i) for i in ids], skip_special_tokens=False)
        return text

    def save(self, path: Path) -> None:
        """See `Tokenizer`."""
        path.write_bytes(self._file)
        path.with_name(CONFIG).write_text(json.dumps(self._config, indent=2) + "\n", encoding="utf-8")

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """See `Tokenizer`; of what is not byte-level, the piece with a blank where the library marks one."""
        contents = json.loads(self._file)
        added = {token["id"]: token["content"] for token in contents.get("added_tokens") or []}
        is_byte_level = '"ByteLevel"' in json.dumps([contents.get("pre_tokenizer"), contents.get("decoder")])
        prefix = (
            contents["model"].get("continuing_subword_prefix") if contents["model"]["type"] == "WordPiece" else None
        )
        pieces = []
        for i in range(self.vocab_size):
            piece = self._backend.id_to_token(i) or ""  # ids may have gaps
            if i == self.end_of_text:
                pieces.append(b"")
            elif i in added:
                pieces.append(piece.encode())
            elif is_byte_level and set(piece) <= _byte_names().keys():
                pieces.append(bytes(map(_byte_names().__getitem__, piece)))
            elif found := re.fullmatch("<0x([0-9A-F]{2})>", piece):
                pieces.append(bytes.fromhex(found[1]))
            elif prefix:
                pieces.append((piece.removeprefix(prefix) if piece.startswith(prefix) else f" {piece}").encode())
            else:
                pieces.append(piece.replace("\u2581", " ").encode())
        return pieces

    @property
    def backend(self) -> Any:
        """See `Tokenizer`."""
        return self._backend

    def _definition(self) -> dict[str, Any]:
        contents = json.loads(self._file)
        kept = {name: value for name, value in contents.items() if name not in ("truncation", "padding")}
        return {"type": "own", "tokenizer": kept, "end_of_text": self.end_of_text}


def tokenizer_of(config: DataConfig) -> Tokenizer | None:
    """The tokenizer that a configuration asks for; None for one that is yet to be trained.

    Raises:
        InputError: there is no such tokenizer.
    """
    if config.tokenizer in BUILT_IN and config.end_of_text is not None:
        raise InputError(f"data.end_of_text is of use to a tokenizer of your own, not to {config.tokenizer}")
    if config.tokenizer == "bpe":
        return None
    if config.tokenizer == "bytes":
        return ByteTokenizer()
    path = Path(config.tokenizer).expanduser()
    if not path.exists():
        raise unknown("data.tokenizer", config.tokenizer, (*BUILT_IN, "the path of a tokenizer.json or of its folder"))
    return OwnTokenizer.read(path, config.end_of_text)


def _name(token: Any) -> Any:
    """What a special token is called; transformers may describe it too."""
    return token.get("content") if isinstance(token, dict) else token


@cache
def _byte_names() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for.

    A byte is called by its Latin-1 character if that is visible, else by the next one from U+0100 on.
    """
    from tokenizers import pre_tokenizers

    names = set(pre_tokenizers.ByteLevel.alphabet())
    others = iter(sorted(names - {chr(byte) for byte in range(256)}))
    return {chr(byte) if chr(byte) in names else next(others): byte for byte in range(256)}


def _byte_level(vocab: dict[str, int], merges: list[tuple[str, str]]) -> Any:
    """A byte-level BPE of the `tokenizers` library, with end of text as its last id."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers

    backend = Backend(models.BPE(vocab, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([END_OF_TEXT])
    return backend


def _may_have_long_words(text: str) -> bool:
    """Tell whether a word of a text can have more than `LONGEST_WORD` bytes; a character has up to four."""
    longest = max(map(len, text.split()), default=0)
    return longest >= LONGEST_WORD // 4 or _LONG_BLANK.search(text) is not None


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer that `Tokenizer.save` wrote to `path`.

    Of a BPE of ours the vocabulary and the merges count; all else is as `BytePairTokenizer` has it. A file that asks
    for something else, such as a regular expression of its own, is a tokenizer of the user's own, told by the
    `tokenizer_config.json` beside it, or refused.

    Raises:
        InputError: the file is damaged, no such one, or longer than any.
    """
    if (n_bytes := path.stat().st_size) > MOST_BYTES:
        raise InputError(f"{path} is no tokenizer: it has {n_bytes:,} bytes, more than {MOST_BYTES:,}")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored.get("type") == "bytes":
            return ByteTokenizer()
        if (described := path.with_name(CONFIG)).is_file():
            return OwnTokenizer(path.read_bytes(), json.loads(described.read_bytes()))
        return BytePairTokenizer(_stored_backend(stored))
    except RecursionError:
        raise InputError(f"{path} is no tokenizer: it is nested too deeply") from None
    except Exception as error:  # the library's own are plain ones
        raise InputError(f"{path} is no tokenizer: {type(error).__name__} {error}") from None


def _stored_backend(stored: dict[str, Any]) -> Any:
    model = stored["model"]
    parts = [stored["normalizer"], stored["pre_tokenizer"]["type"], stored["decoder"]["type"], model["type"]]
    if parts != [None, "ByteLevel", "ByteLevel", "BPE"]:
        raise ValueError(f"it is no byte-level BPE but {parts}")
    vocab = {str(piece): int(number) for piece, number in model["vocab"].items()}
    names = _byte_names()
    if not names.keys() <= vocab.keys() or not set().union(*vocab) <= names.keys():
        raise ValueError("its pieces are not those of all bytes")
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise ValueError(f"its ids are not 0 to {len(vocab) - 1}")
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    return _byte_level(vocab, [(left, right) for left, right in merges])
