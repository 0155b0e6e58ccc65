"""Bounds of the numbers that a user gives: a configuration's, a command line's."""

from __future__ import annotations

from dataclasses import dataclass

from sla_ablate.errors import InputError


@dataclass(frozen=True)
class Bounds:
    """The lowest and the highest possible value of a number; if both are of type int, so is the number."""

    lowest: float
    highest: float
    ends: str = "[]"
    """Which of the two are possible themselves, as intervals are written: `[]`, `[)`, `(]` or `()`."""
    without: float | None = None
    """A value between them that is not possible."""

    @property
    def kind(self) -> type[int] | type[float]:
        """The number's type."""
        return int if isinstance(self.lowest, int) and isinstance(self.highest, int) else float

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        if self.kind is int and isinstance(value, float):
            return False
        inside = self.lowest <= value <= self.highest and value != self.without
        return inside and not (
            (self.ends[0] == "(" and value == self.lowest) or (self.ends[1] == ")" and value == self.highest)
        )

    def __str__(self) -> str:
        """The possible values in words."""
        low, high = (f"{bound:g}" if isinstance(bound, float) else str(bound) for bound in (self.lowest, self.highest))
        if self.ends == "[]":
            words = f"{low} to {high}"
        else:
            least = f"more than {low}" if self.ends[0] == "(" else f"{low} or more"
            words = f"{least} and {'less than' if self.ends[1] == ')' else 'at most'} {high}"
        return words if self.without is None else f"{words} except {self.without:g}"

    def check(self, told: str, value: object, otherwise: str = "") -> None:
        """Refuse a value outside of the bounds.

        Args:
            told: the option with its value, as the user gave them.
            value: the value.
            otherwise: what else is possible, for the message.

        Raises:
            InputError: it is not possible.
        """
        if value not in self:
            raise InputError(f"{told} is not possible; choose {self}{otherwise}")
