"""Where in a picture something is, by its name: what a perceptor misses most when it is hidden.

Occlusion maps of Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014), section 4.2, with
the similarity to a text in place of a class's probability.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

GRID = 12
"""Places along each side that are hidden, one after the other."""

HIDDEN = 0.4
"""Side of what is hidden over the short side; a large thing is still known by what a smaller square leaves of it."""

AT_ONCE = 32
"""Pictures seen at once."""


@torch.no_grad()
def occlusion_map(picture: Tensor, see: Callable[[Tensor], Tensor], text: Tensor) -> Tensor:
    """Return how much less a picture (1, 3, H, W) fits a text (D,) where a square around a place is hidden, (H, W).

    `see` embeds pictures (B, 3, H, W) as (B, D) of unit length. What is hidden is painted in the picture's median
    colour. The numbers are cosines, above 0 where the words are.
    """
    height, width = picture.shape[-2:]
    half = HIDDEN * min(height, width) / 2
    ground = picture.flatten(2).median(-1).values[..., None, None]
    rows, columns = torch.arange(height)[:, None] + 0.5, torch.arange(width)[None, :] + 0.5
    places = [((y + 0.5) * height / GRID, (x + 0.5) * width / GRID) for y in range(GRID) for x in range(GRID)]

    def hide(some: Sequence[tuple[float, float]]) -> Tensor:
        squares = torch.stack([((rows - y).abs() < half) & ((columns - x).abs() < half) for y, x in some])
        return torch.where(squares[:, None].to(picture.device), ground, picture)

    seen = torch.cat([see(hide(places[start : start + AT_ONCE])) for start in range(0, len(places), AT_ONCE)])
    missed = (see(picture) - seen) @ text
    grid = missed.view(1, 1, GRID, GRID)
    return F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)[0, 0]
