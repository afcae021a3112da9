"""The preview: colours and shape of the cells that a terminal is told to draw."""

import io
import re

import pytest
import torch
from rich.console import Console
from torch import Tensor

from vqclip.common.images import to_image
from vqclip.outputs.preview import BELOW, Preview

CELL = re.compile(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m(▀+)\x1b\[0m")


def drawn(pixels: Tensor, columns: int, width: int = 80, height: int = 100, **settings: object) -> str:
    console = Console(
        file=io.StringIO(),
        width=width,
        height=height,
        **{"force_terminal": True, "color_system": "truecolor", **settings},
    )
    console.print(Preview(to_image(pixels), columns))
    return console.file.getvalue()


def rows(text: str) -> list[list[tuple[int, ...]]]:
    """Return for every line its cells as (ink, ground), six numbers each."""
    return [[tuple(map(int, cell[:6])) for cell in CELL.findall(line) for _ in cell[6]] for line in text.splitlines()]


def test_a_cell_shows_two_pixels() -> None:
    pixels = torch.zeros(3, 2, 2)
    pixels[0, 0, 0], pixels[1, 0, 1], pixels[2, 1, 0] = 1, 1, 1  # red green / blue black
    assert rows(drawn(pixels, 10)) == [[(255, 0, 0, 0, 0, 255), (0, 255, 0, 0, 0, 0)]]


@pytest.mark.parametrize(
    ("height", "width", "columns", "terminal", "cells"),
    [
        (64, 64, 32, 80, (16, 32)),  # half as many lines as columns: a cell is twice as high as wide
        (64, 64, 32, 20, (10, 20)),  # never wider than the terminal
        (32, 64, 32, 80, (8, 32)),
        (8, 8, 32, 80, (4, 8)),  # never larger than the picture
        (2, 64, 8, 80, (1, 8)),
        (64, 2, 8, 80, (32, 2)),
        (9, 8, 8, 80, (4, 8)),  # an odd number of rows: 9 / 2 is rounded to whole cells
        (1, 8, 8, 80, (1, 8)),
    ],
)
def test_shape(height: int, width: int, columns: int, terminal: int, cells: tuple[int, int]) -> None:
    found = rows(drawn(torch.rand(3, height, width), columns, terminal))
    assert {len(row) for row in found} == {cells[1]}
    assert len(found) == cells[0]


def test_shrinking_averages() -> None:
    """Stripes of black and white, four pixels to a column: mid-grey everywhere."""
    stripes = (torch.arange(32) % 2).float().expand(3, 32, 32)
    assert {value for row in rows(drawn(stripes, 8)) for cell in row for value in cell} <= {127, 128}


def test_no_colour_where_there_is_none() -> None:
    text = drawn(torch.rand(3, 4, 4), 4, force_terminal=False, color_system=None)
    assert text == "▀▀▀▀\n▀▀▀▀\n"


@pytest.mark.parametrize(("lines", "shape"), [(24, (64, 64)), (24, (64, 16)), (10, (64, 64)), (3, (64, 64))])
def test_it_is_no_higher_than_the_terminal(lines: int, shape: tuple[int, int]) -> None:
    """48 columns of a square are 24 lines: with a bar under it, the picture was torn on a terminal of 24."""
    found = rows(drawn(torch.rand(3, *shape), 48, height=lines))
    assert 1 <= len(found) <= lines - BELOW
    assert len(found[0]) == pytest.approx(2 * len(found) * shape[1] / shape[0], abs=2)
