"""A finished run's model, scored again: does it give the loss that the record has?"""

from __future__ import annotations

from pathlib import Path

from analysis.evidence import Record
from analysis.perplexity import Totals
from sla_ablate.runs.record import read_config
from sla_ablate.runs.trained import data_of, load_model
from sla_ablate.training.evaluation import document_nll

TOLERANCE = 1e-4
"""Nats per token by which two machines, or compiled layers, may differ in scoring one model: rounding."""


def rescore(run: Path, record: Record) -> tuple[bool, str]:
    """Score the model of a run again on its validation split.

    Args:
        run: its folder.
        record: its record, with results.

    Returns:
        Whether it agrees with the record, and by how much it differs, in words.

    Raises:
        InputError: its model or its data cannot be used.
    """
    again = document_nll(load_model(run), data_of(run), tokens=read_config(run).evaluation.tokens)
    recorded = record["results"]["validation"]
    if any(again[name] != recorded[name] for name in ("documents", "tokens", "bytes", "words")):
        return False, "the record is of other documents than the data have"
    before, after = (Totals.of(result).nats_per_token for result in (recorded, again))
    worst = max(abs(a - b) / n for a, b, n in zip(again["nll"], recorded["nll"], recorded["tokens"], strict=True) if n)
    how = "to the bit" if again["nll"] == recorded["nll"] else f"differs by {after - before:+.1e}"
    line = f"{before:.6f} nats/token recorded, {after:.6f} again, {how}"
    return worst <= TOLERANCE, line if worst <= TOLERANCE else f"{line}, by {worst:.1e} in a document"
