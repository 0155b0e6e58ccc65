"""Which text a run reads and how it becomes tokens: the configuration of the data."""

from __future__ import annotations

from dataclasses import dataclass

PARTS = 16
"""One document makes up at most such a part of a capped validation."""


CORPORA = ("sotu", "books")
BUILT_IN = ("bpe", "bytes")
"""Tokenizers that are not the user's own."""


@dataclass
class DataConfig:
    """Which text a run reads and how it becomes tokens."""

    path: str | None = None
    """A .txt, .jsonl or .parquet file (plain, .gz, .xz, .zst), a folder or a glob (a path that exists is no glob);
    a single document is cut at ends of paragraphs, and its last parts are validation; null: a corpus with a name."""
    corpus: str = "sotu"
    """The corpus that is read without a path: `sotu`, which is embedded, or `books`, which is fetched once."""
    reader: str | None = None
    """A function of the user's own that reads every file of the path instead, `my_package.module:name`: from the path
    of a file it makes the (id, text) of each document."""
    tokenizer: str = "bpe"
    """`bpe` (byte-level, trained on the training split), `bytes`, or a tokenizer of the user's own: the path of a
    `tokenizer.json`, or of a folder as transformers saves it."""
    end_of_text: str | None = None
    """The token that ends a document, of a tokenizer of the user's own; null: its `eos_token`, or the usual name."""
    vocab_size: int = 4096
    """Tokens of the BPE vocabulary, end of text included; raw bytes always have 257, other tokenizers their own."""
    validation_fraction: float = 0.1
    """Expected share of documents in the validation split; of a single document that of its end."""
    text_field: str = "text"
    """Field of a JSON line or Parquet column that holds the text."""
    id_field: str = "id"
    """Field or column that names a document; where absent, file name and row do."""
    cache: str = "~/.cache/sla-ablate"
    """Folder of the prepared token shards and of fetched corpora."""
