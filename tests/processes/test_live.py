"""The block that stays in place, drawn on a console that is a string."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from terminal import shown

from sla_ablate.processes.live import Bar, Block, View
from sla_ablate.text.telling import NOTE


class Screen:
    """A block with views that a test gives it; `lines` are what stands there."""

    def __init__(self, **options):
        self.file = io.StringIO()
        self.block = Block(Console(file=self.file, force_terminal=True, width=90, **options), lambda: self.view)

    def look(self, whole, *parts, ended=()):
        self.view = View(whole, parts, ended)
        self.block.look()

    @property
    def lines(self):
        return [re.sub(r"\s*[━╸╺]+\s*", " | ", line) for line in shown(self.file.getvalue())]


@pytest.fixture
def screen():
    return Screen()


def test_bars_stay_in_place_and_lines_scroll_above_them(screen):
    for step in range(5):
        screen.look(Bar("sweep", step, 10, f"{step}/10 runs"), Bar("a", step, 4, f"step {step}/4"))
        screen.block.read(f"line {step}\n".encode())
        screen.block.look()
    assert screen.lines == [*(f"line {i}" for i in range(5)), "sweep | 4/10 runs", "a | step 4/4"]
    screen.look(Bar("sweep", 5, 10, "5/10 runs"), Bar("b", 1, 4, "step 1/4"))
    assert screen.lines[5:7] == ["sweep | 5/10 runs", "b | step 1/4"]
    screen.block.close()
    assert [line for line in screen.lines if line] == [f"line {i}" for i in range(5)]


def test_a_bar_is_as_long_as_its_share():
    screen = Screen(color_system=None)  # where what is not done stays blank
    screen.look(Bar("half", 3, 6, ""), Bar("all", 4, 4, ""))
    assert [line.count("━") for line in shown(screen.file.getvalue())] == [10, 20]


def test_a_note_holds_until_its_part_goes_on(screen):
    sweep = Bar("s", 0, 1, "0/1 runs")
    screen.block.read(f"{NOTE}run  starting\n".encode())
    screen.look(sweep)  # nothing but the note is known of the run
    assert screen.lines[1] == "run | starting"
    screen.look(sweep, Bar("run", 3, 9, "step 3/9"))
    screen.block.read(f"{NOTE}run  validating\n".encode())
    screen.look(sweep, Bar("run", 6, 9, "step 6/9"))  # it was at step 6 already when it began to validate
    screen.look(sweep, Bar("run", 6, 9, "step 6/9"))
    assert screen.lines[1] == "run | validating"
    screen.look(sweep, Bar("run", 7, 9, "step 7/9"))
    assert screen.lines[1] == "run | step 7/9"
    screen.block.read(f"{NOTE}run  waiting\n{NOTE}run  \n".encode())
    screen.look(sweep, Bar("run", 7, 9, "step 7/9"))
    assert screen.lines[1] == "run | step 7/9"
    screen.block.read(b"run  done: all is well\n")
    screen.look(sweep)
    assert screen.lines[:2] == ["run  done: all is well", "s | 0/1 runs"]


def test_runs_that_print_elsewhere_are_told_of_once(screen):
    screen.look(Bar("s", 2, 2, ""), ended=[("here", "done"), ("there", "failed: no disk")])
    screen.block.read(b"here  done: validation loss 3.2\n")
    screen.look(Bar("s", 2, 2, ""))
    screen.block.close()
    assert [line for line in screen.lines if "here" in line] == [
        "here  done: validation loss 3.2",
        "there  failed: no disk",
    ]


def test_what_is_printed_is_no_markup_and_no_control_code(screen):
    screen.look(Bar("v[1]", 0, 1, "[red]x[/red]"))
    screen.block.read("[bold]a[/bold] ü\x1b[2J\x07\n10 %\r20 %\n".encode() + b"\xff\n" + b"half a li")
    screen.block.read(b"ne\n")
    assert screen.lines[0].startswith("[bold]a[/bold] ü")
    assert "\x1b[2J" not in screen.file.getvalue()
    assert screen.lines[1:5] == ["20 %", "�", "half a line", "v[1] | [red]x[/red]"]


def test_neither_a_lost_terminal_nor_a_damaged_record_ends_anything(screen):
    screen.look(Bar("s", 0, 1, "so far"))
    screen.block._look = lambda: 1 / 0
    screen.block.look()
    assert screen.lines[0] == "s | so far"
    screen.file.close()
    screen.block.read(b"line\n")
    screen.block.look()
    screen.block.close()
