"""Where in a picture a prompt holds: some cutouts are moved there, and each counts for it by how much of it lies there.

Shapes: N pictures, K cutouts, T targets, R regions of a picture; a map (G, G) says for a grid of places how much of
each is meant.
"""

import dataclasses
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.guidance.cutouts import Draws, places

GRID = 64
"""Places along each side of a map."""

SEEN = 16
"""Places along each side of a cutout that are looked up."""

DECISION = 3
"""Power of a cutout's share that lies in the region. With 1, views of the whole picture decide, as there are more."""

WHOLE = (0.0, 0.0, 1.0)
"""The window that is all of a picture."""

ROOM = 1.25
"""Side of what is looked at in a region, over the region's short side, where its long side has as much."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom as shares of the sides, in [0, 1]."""

LEAST = 1e-4
"""Weights of a step whose mean is below this are those of cutouts that all lie elsewhere, and the prompt rests."""


def box_map(left: float, top: float, right: float, bottom: float) -> Tensor:
    """Return the map (G, G) of a box, given by shares of the sides in [0, 1]: how much of each place it covers."""
    edges = torch.arange(GRID + 1, dtype=torch.float64) / GRID
    across, down = (
        (edges[1:].clamp(max=end) - edges[:-1].clamp(min=begin)).clamp(min=0) * GRID
        for begin, end in ((left, right), (top, bottom))
    )
    return (down[:, None] * across).float()


def part_of_map(where: Tensor, box: Box) -> Tensor:
    """Return what a map (G, G) says of the part of the picture in a box, (G, G): zeros where nothing there is meant."""
    left, top, right, bottom = box
    middles = (torch.arange(GRID, device=where.device) + 0.5) / GRID
    rows, columns = ((GRID * (begin + (end - begin) * middles)).long() for begin, end in ((top, bottom), (left, right)))
    return where[rows][:, columns]


def window(where: Tensor) -> Tensor:
    """Return what to look at of a map (G, G): x and y of the centre in [-1, 1], and the side over the picture's."""
    meant = where > where.max() / 2
    ends = [line.nonzero().aminmax() for line in (meant.any(0), meant.any(1))]
    begins, lengths = zip(*((float(low), float(high - low) + 1) for low, high in ends), strict=True)
    side = min(max(lengths), ROOM * min(lengths))
    centres = [
        min(max(begin + length / 2, side / 2), GRID - side / 2) for begin, length in zip(begins, lengths, strict=True)
    ]
    return where.new_tensor([*(2 * centre / GRID - 1 for centre in centres), side / GRID])


def moved(draws: Draws, squares: Iterable[Tensor], looks: int = 0) -> Draws:
    """Move cutouts to the windows (R, 3) of their picture, in turn, going on where as many in each of the `looks`
    before ended; those of the whole picture stay as they are.
    """
    count = draws.zoom.shape[1]
    turn = torch.arange(looks * count, (looks + 1) * count, device=draws.zoom.device)
    x, y, side = torch.stack([each[turn % len(each)] for each in squares]).to(draws.zoom.dtype).unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    shift = torch.stack([side, zero, x, zero, side, y, zero, zero, one], dim=-1).unflatten(-1, (3, 3))
    frames = torch.cat([draws.frames[:, :, :-1], shift[:, :, None] @ draws.frames[:, :, -1:]], dim=2)
    return dataclasses.replace(draws, frames=frames, zoom=draws.zoom * side)


def cropped(pictures: Tensor, square: Tensor) -> Tensor:
    """Return the pictures (B, 3, H, W) in a window, (B, 3, h, w)."""
    x, y, side = square.tolist()
    height, width = pictures.shape[-2:]
    left, right = (round((x + 1 + end) / 2 * width) for end in (-side, side))
    top, bottom = (round((y + 1 + end) / 2 * height) for end in (-side, side))
    return pictures[..., max(0, top) : max(top + 1, bottom), max(0, left) : max(left + 1, right)]


def shares(draws: Draws, maps: Tensor, picture: Tensor) -> Tensor:
    """Return how much of each cutout lies in each target's region, (T, K) in [0, 1].

    `maps` are (T, G, G), `picture` (T,) the targets' pictures. What a cutout shows beyond the picture's edge lies where
    it is read from; what it fills there lies nowhere.
    """
    x, y, outside = places(draws, SEEN)
    grid = torch.stack([x, y], dim=-1)[picture].flatten(1, 2)
    read = F.grid_sample(maps[:, None].to(grid.dtype), grid, padding_mode="border", align_corners=False)
    seen = read.view(len(maps), -1, SEEN, SEEN)
    if outside is not None:
        seen = seen * ~outside[picture]
    return seen.mean((-2, -1))


def place_weights(draws: Draws, maps: Tensor, picture: Tensor) -> Tensor:
    """Return how much each cutout counts for each target, (T, K), as a factor of the cutout's own weight.

    Both together have a mean of 1 over a target's cutouts, so that a prompt weighs the same in a small region; one for
    the whole picture has 1 everywhere, and one that no cutout of the step shows 0.
    """
    decided = shares(draws, maps, picture) ** DECISION
    own = decided if draws.weight is None else decided * draws.weight[picture]
    mean = own.mean(1, keepdim=True)
    weights = torch.where(mean > LEAST, decided / mean.clamp(min=LEAST), torch.zeros_like(decided))
    whole = maps.flatten(1).amin(1) >= 1
    return torch.where(whole[:, None], torch.ones_like(weights), weights)
