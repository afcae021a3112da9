"""Bars that fit: a narrow terminal is shown less of what goes on, and nothing of it is torn."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

from vqclip.cli.console import Console

LONGEST = 40
"""Cells of a bar; where there is room for fewer it is shorter, and where not even for SHORTEST there is none."""

SHORTEST = 6


@dataclass(frozen=True)
class Part:
    """A column behind the bar: how many `cells` it takes, and the terminal's width from which it is shown."""

    column: ProgressColumn
    cells: int
    least: int = 0


def counted() -> Part:
    """How many of how many."""
    return Part(MofNCompleteColumn(), 11)


def time_left() -> Part:
    """How long it will go on."""
    return Part(TimeRemainingColumn(), 7, least=32)


def bar(console: Console, title: int, parts: Sequence[Part], *, transient: bool = False) -> Progress:
    """Make a bar between a title of up to so many cells, which may end in an ellipsis, and its parts.

    Nothing is shown where nobody watches.
    """
    shown = [part for part in parts if console.screen.width >= part.least]
    room = console.screen.width - sum(part.cells + 1 for part in shown)
    title = max(1, min(title, room))
    length = min(LONGEST, room - title - 1)
    return Progress(
        TextColumn("{task.description}", table_column=Column(max_width=title, no_wrap=True, overflow="ellipsis")),
        *([BarColumn(length)] if length >= SHORTEST else []),
        *(part.column for part in shown),
        console=console.screen,
        disable=not console.interactive,
        transient=transient,
        redirect_stdout=console.shared,
    )
