"""Where items and their results are kept: `experiments/` of a checkout, else `results/` in the working folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sla_ablate.config.root import data_root
from sla_ablate.errors import InputError
from sla_ablate.items.item import Item, find_item, items
from sla_ablate.items.lines import FILE, Line, processor_of, read_lines


def experiments() -> Path:
    """The folder of the project's own items."""
    return data_root() / "experiments"


def item_names() -> list[str]:
    """What the project's own items are called."""
    return sorted(path.parent.name for path in experiments().glob("*/item.yaml"))


def all_items() -> dict[str, Item]:
    """The project's own items, by name."""
    return items(experiments())


def item_named(name: str) -> Item:
    """An item of the project's, or one in a folder of the user's own."""
    return find_item(name, experiments())


@dataclass(frozen=True)
class Results:
    """A folder of results: `<item>/results/<scale>/runs.jsonl` and what is made of it."""

    root: Path

    @classmethod
    def at(cls, folder: Path | None) -> Results:
        """Those of a folder; None: `experiments/` in a checkout, else `results/` in the working folder."""
        checkout = (data_root() / "pyproject.toml").is_file()
        return cls(folder or (experiments() if checkout else Path("results")))

    def folder(self, item: str, scale: str) -> Path:
        """The folder of an item's results at a scale."""
        return self.root / item / "results" / scale

    def lines(self, item: str, scale: str) -> list[Line]:
        """The lines of an item at a scale, of each run and kind of processor one.

        Raises:
            InputError: as `read_lines`.
        """
        found = read_lines(self.folder(item, scale) / FILE)
        return list({(line["run_id"], processor_of(line)): line for line in reversed(found)}.values())[::-1]

    def all_lines(self) -> list[Line]:
        """The lines of all items at all scales; of a file with an altered line none."""
        found = []
        for path in sorted(self.root.glob(f"*/results/*/{FILE}")):
            try:
                found += read_lines(path)
            except InputError:  # told where that item itself is asked for
                continue
        return found

    def scales(self, item: str) -> list[str]:
        """The scales at which an item has results."""
        return sorted(path.parent.name for path in (self.root / item / "results").glob(f"*/{FILE}"))
