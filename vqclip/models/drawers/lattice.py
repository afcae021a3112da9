"""Cells that fill a picture: each point belongs to the nearest centre of a lattice, which makes squares, hexagons or
diamonds, by how far apart its rows are and whether every other row is shifted by half a cell.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """A lattice whose cells are 1 wide: rows are `rise` apart, every other one moved by `shift`; `corners` (x, y) are
    those of a cell, around its centre.
    """

    rise: float
    shift: float
    corners: Sequence[tuple[float, float]]


LONG, SHORT = 1 / math.sqrt(3), 1 / math.sqrt(12)
"""Of a hexagon 1 wide: how far its upper and lower corner are from its centre, and how high its left and right ones."""

SHAPES: Mapping[str, Shape] = {
    "square": Shape(1.0, 0.0, ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))),
    "hexagon": Shape(
        math.sqrt(3) / 2, 0.5, ((0, -LONG), (0.5, -SHORT), (0.5, SHORT), (0, LONG), (-0.5, SHORT), (-0.5, -SHORT))
    ),
    "diamond": Shape(0.5, 0.5, ((0, -0.5), (0.5, 0), (0, 0.5), (-0.5, 0))),
}


def lay(shape: Shape, size: tuple[int, int], cell: int) -> tuple[Tensor, Tensor]:
    """Fill a picture of `size` (H, W) with cells that are `cell` pixels wide; those of which nothing shows are left
    out.

    Returns which of the M cells each pixel belongs to, (H, W), and their centres (M, 2), x and y in pixels, row by row.
    """
    down, across = ((torch.arange(side, dtype=torch.float64) + 0.5) / cell for side in size)
    nearest = (down / shape.rise - 0.5).round()[:, None]
    rows = torch.stack([nearest - 1, nearest, nearest + 1]).expand(-1, -1, size[1])
    shifts = 0.5 + shape.shift * rows.remainder(2)
    columns = (across - shifts).round()
    far = (across - columns - shifts).square() + (down[:, None] - (rows + 0.5) * shape.rise).square()
    chosen = far.argmin(0, keepdim=True)
    cells = torch.stack([rows.gather(0, chosen)[0], columns.gather(0, chosen)[0]], -1)
    found, places = cells.flatten(0, 1).unique(dim=0, return_inverse=True)
    row, column = found.unbind(1)
    centres = torch.stack([column + 0.5 + shape.shift * row.remainder(2), (row + 0.5) * shape.rise], 1)
    return places.view(size), (cell * centres).float()
