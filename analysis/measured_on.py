"""What the runs of one setting were, for the note under a table and the caption of a figure."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.evidence import Record


def measured_on(records: Sequence[Record]) -> str:
    """The model, training, precision and corpus of the done runs of one setting, in sentences."""
    record = records[0]
    m, o = record["config"]["model"], record["config"]["optim"]
    corpus = record["config"]["data"].get("corpus") or "of the user's own"
    validation, tokens = record["results"]["validation"], record["cost"]["tokens"] / 1e6
    precision = ", ".join(dict.fromkeys(each["environment"]["precision"] for each in records))
    return (
        f"Model: {m['n_layer']} layers × {m['n_head']} heads × {m['n_embd']}, context length {m['block_size']}; "
        f"{o['steps']} steps of {o['batch_size']} sequences ({tokens:,.2f} M tokens), trained in {precision}. "
        f"Corpus: {corpus}; validation on {sum(validation['tokens']):,} tokens of {len(validation['documents'])} "
        "documents."
    )
