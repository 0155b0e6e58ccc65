"""The table of an item in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.items.columns import columns
from analysis.items.table import ItemTable
from analysis.items.words import caption, published
from sla_ablate.text import escape


def render(tables: Sequence[ItemTable]) -> str:
    """The tables, each with its caption, and what was published."""
    blocks = []
    for table in tables:
        found = columns(table)
        cells = {
            column.title: [
                f"**{escape.markdown(text)}**" if best else escape.markdown(text)
                for text, best in zip(column.cells, column.best or [False] * len(column.cells), strict=True)
            ]
            for column in found
        }
        align = ["right" if column.is_number else "left" for column in found]
        blocks += [pd.DataFrame(cells).to_markdown(index=False, disable_numparse=True, colalign=align)]
        blocks.append(escape.markdown(caption(table)))
    values = published(tables[0].item.published)
    if values:
        blocks.append("Published:\n\n" + "\n".join(f"- {escape.markdown(value)}" for value in values))
    return "\n\n".join(blocks) + "\n"
