"""Loss and perplexity of a set of documents, from the sums kept per document."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sla_ablate.errors import InputError


@dataclass(frozen=True)
class Totals:
    """Sums over all documents, and the rates that follow from them.

    Rates are ratios of sums: a mean of per-document perplexities would weigh short documents too much.
    """

    nll: float
    """Negative log-likelihood of all tokens, in nats."""
    tokens: int
    bytes: int
    """UTF-8 bytes of the text."""
    words: int
    """Whitespace-separated words of the text."""

    @classmethod
    def of(cls, validation: Mapping[str, Any]) -> Totals:
        """Sum a record's `results["validation"]`: lists per document, `nll` in nats.

        Raises:
            InputError: no token was scored.
        """
        if not sum(validation["tokens"]):
            raise InputError("the validation results hold no tokens; evaluate on at least one document")
        return cls(
            nll=math.fsum(validation["nll"]),
            tokens=sum(validation["tokens"]),
            bytes=sum(validation["bytes"]),
            words=sum(validation["words"]),
        )

    @property
    def nats_per_token(self) -> float:
        """Mean negative log-likelihood, in nats per token."""
        return self.nll / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(Σ nll / Σ tokens), per token; comparable only between models that share a tokenizer."""
        return _exp(self.nats_per_token)

    @property
    def bits_per_byte(self) -> float:
        """Σ nll / (ln 2 · Σ bytes), comparable across tokenizers; NaN for a text without bytes."""
        return self.nll / (math.log(2) * self.bytes) if self.bytes else math.nan

    @property
    def word_perplexity(self) -> float:
        """exp(Σ nll / Σ words), comparable across tokenizers; NaN for a text without words."""
        return _exp(self.nll / self.words) if self.words else math.nan

    @property
    def byte_perplexity(self) -> float:
        """exp(Σ nll / Σ bytes), comparable across tokenizers; NaN for a text without bytes."""
        return _exp(self.nll / self.bytes) if self.bytes else math.nan


def _exp(x: float) -> float:
    # math.exp raises on overflow, which scripts without spaces reach: a whole paragraph is one "word".
    with np.errstate(over="ignore"):
        return float(np.exp(x))
