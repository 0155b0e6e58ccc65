"""Tables of every item from made-up lines."""

from functools import cache

import pytest
from made_up_lines import made_up_lines

from analysis.items.table import ItemTable, item_tables
from sla_ablate.items.store import all_items


@cache
def made_up_table(name: str) -> ItemTable:
    """The table of an item of the project at `micro`, two seeds."""
    item = all_items()[name]
    (table,) = item_tables(item, "micro", made_up_lines(item, seeds=2))
    return table


@pytest.fixture(scope="session")
def tables():
    """The table of an item by its name, made once."""
    return made_up_table


@pytest.fixture(scope="session")
def odd_table():
    """A table with a label, and a processor, that each medium takes for its own signs."""
    item = all_items()["skip_distance"]
    lines = made_up_lines(item, seeds=2, cpu='<b>Processor</b> & "co" 100 %')
    label = r"""a_b % & # $ { } ~ ^ \ – · β <script>alert('x')</script> [1] --é ☃ | ` "q" ÷"""
    odd = [
        {**line, "pattern": {**line["pattern"], "label": label}} if line["config"]["pattern"]["distance"] == 1 else line
        for line in lines
    ]
    (table,) = item_tables(item, "micro", odd)
    return table
