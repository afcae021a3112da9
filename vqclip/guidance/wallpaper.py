"""Wallpaper groups: pictures that repeat in both directions and by turns, glides and mirrors of a square raster.

Each place takes what the picture has at the one of its equal places that lies nearest to a centre, and goes over into
the next where two lie as near: so the whole is exactly as its group says, the seams are soft, the picture's edges are
never shown, and what is so already stays as it is.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

SEAM = 0.02
"""How soft seams are: the difference of squared distances, in sides, at which one of two places counts e times more."""


@dataclass(frozen=True)
class Group:
    """The equal `places` of a place (x, y), in sides, as the International Tables for Crystallography, volume A, list
    them, maybe of two cells; where their `origin` lies in the picture, so that no place's equal ones all lie at its
    edge; and the `centre` of what is shown, far from its own equal places.
    """

    places: str
    origin: tuple[float, float]
    centre: tuple[float, float]


GROUPS: Mapping[str, Group] = {
    "p2": Group("x,y -x,-y x+1/2,y -x+1/2,-y", (0.25, 0.25), (0.5, 0.5)),
    "pm": Group("x,y -x,y x,y+1/2 -x,y+1/2", (0.25, 0), (0.5, 0.5)),
    "pg": Group("x,y -x,y+1/2 x+1/2,y -x+1/2,y+1/2", (0, 0), (0.5, 0.5)),
    "cm": Group("x,y -x,y x+1/2,y+1/2 -x+1/2,y+1/2", (0.25, 0), (0.5, 0.5)),
    "pmg": Group("x,y -x,-y -x+1/2,y x+1/2,-y", (0, 0.25), (0.5, 0.5)),
    "pgg": Group("x,y -x,-y -x+1/2,y+1/2 x+1/2,-y+1/2", (0.25, 0), (0.56, 0.64)),
    "cmm": Group("x,y -x,-y -x,y x,-y x+1/2,y+1/2 -x+1/2,-y+1/2 -x+1/2,y+1/2 x+1/2,-y+1/2", (0.25, 0), (0.6, 0.64)),
    "p4": Group("x,y -x,-y -y,x y,-x", (0.25, 0.25), (0.44, 0.56)),
    "p4g": Group("x,y -x,-y -y,x y,-x -x+1/2,y+1/2 x+1/2,-y+1/2 y+1/2,x+1/2 -y+1/2,-x+1/2", (0.25, 0.25), (0.32, 0.46)),
}

SQUARE_GROUPS = frozenset({"p4", "p4g"})

TERM = re.compile(r"(-?)([xy])(\+1/2)?")


def wallpaper(group: str, images: Tensor) -> Tensor:
    """Repeat the middle of pictures (N, 3, H, W) as a group of GROUPS does; the picture is a cell, which tiles.

    The sides are even; those of groups with quarter turns are equal.
    """
    found = GROUPS[group]
    height, width = images.shape[-2:]
    rows, columns = (torch.arange(side, device=images.device) for side in (height, width))
    grid = {"x": columns.expand(height, width), "y": rows[:, None].expand(height, width)}
    terms = [each.split(",") for each in found.places.split()]
    x, y = found.origin
    equal = [(_place(across, grid, width, x), _place(down, grid, height, y)) for across, down in terms]
    x, y = found.centre
    distances = [((across + 0.5) / width - x) ** 2 + ((down + 0.5) / height - y) ** 2 for across, down in equal]
    weights = (-torch.stack(distances).to(images.dtype) / SEAM).softmax(0)
    seen = torch.stack([images[..., down, across] for across, down in equal])
    return (weights[:, None, None] * seen).sum(0)


def _place(term: str, grid: Mapping[str, Tensor], side: int, origin: float) -> Tensor:
    """Where a term such as `-x+1/2` leads in whole pixels of a side, for every place of the grid."""
    found = TERM.fullmatch(term)
    assert found is not None
    minus, axis, half = found.groups()
    turned = round(2 * origin * side) - 1 - grid[axis] if minus else grid[axis]
    return (turned + (side // 2 if half else 0)) % side


WALLPAPERS: Mapping[str, Callable[[Tensor], Tensor]] = {group: partial(wallpaper, group) for group in GROUPS}
"""A filter for each group."""
