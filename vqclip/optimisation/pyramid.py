"""Coarse to fine: a run in stages of growing size, each going on with the picture of the one before.

A small picture has a few cells, which every cutout sees, so that its things take their places before their details;
and its steps are cheap. After Octave-wise ascent in A. Mordvintsev, C. Olah and M. Tyka, "Inceptionism" (2015), and the
pyramids of somnai-dreams/pytti-core (2026).
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.models.vqgan import VQGAN
from vqclip.optimisation.descent import Growth


def grids(pyramid: Sequence[Sequence[float]], grid: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the cells (h, w) of each stage, the last of which has `grid`; without a pyramid it is the only one.

    `pyramid` are stages: share of the sides, share of the updates, and maybe share of the cutouts.
    """
    sides = [side for side, *_ in pyramid[:-1]]
    return [*((max(1, round(side * grid[0])), max(1, round(side * grid[1]))) for side in sides), grid]


def growths(pyramid: Sequence[Sequence[float]], grid: tuple[int, int]) -> list[Growth]:
    """Return where each stage but the last ends, and what comes then."""
    ends = accumulate(share for _, share, *_ in pyramid[:-1])
    return [Growth(end, after) for end, (_, after) in zip(ends, pairwise(grids(pyramid, grid)), strict=True)]


def view_shares(pyramid: Sequence[Sequence[float]]) -> list[float]:
    """Return each stage's share of the cutouts, all where it does not say; empty without a pyramid."""
    return [stage[2] if len(stage) > 2 else 1.0 for stage in pyramid]


@torch.no_grad()
def resized(vqgan: VQGAN, latent: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return a latent of entries, (N, C, *grid), of the same pictures in another size: decoded, resized, encoded."""
    images = vqgan.render(latent)
    height, width = (cells * vqgan.factor for cells in grid)
    return vqgan.quantise(vqgan.encode(in_size(images, (height, width))))


def in_size(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return pictures (N, 3, H, W) in [0, 1] at this height and width; those that have it as they are."""
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
