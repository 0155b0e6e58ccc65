"""JSON that carries a digest of itself."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from sla_ablate.text.words import as_json

_SEAL = re.compile(rb'\{\n "sha256": "([0-9a-f]{64})",')


def seal(value: Mapping[str, Any]) -> bytes:
    """A JSON object as text that begins with the SHA-256 of the text without it."""
    text = (as_json(dict(value), indent=1) + "\n").encode()
    return f'{{\n "sha256": "{hashlib.sha256(text).hexdigest()}",'.encode() + text[1:]


def unseal(text: bytes) -> Any:
    """The value of JSON, of an object without its digest; one that has none, as earlier versions wrote it, is taken.

    Raises:
        ValueError: it is no JSON, or was changed since it was sealed.
    """
    try:
        value = json.loads(text)
        if b"\\ud" in text.lower():  # perhaps half a surrogate pair, which no table can hold
            value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if isinstance(value, dict) and value.pop("sha256", None) is not None:
        found = _SEAL.match(text)
        if not found or hashlib.sha256(b"{" + text[found.end() :]).hexdigest() != found[1].decode():
            raise ValueError("it was changed since it was written")
    return value
