"""A picture through the VQGAN and back: what its codes keep."""

import math
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from vqclip.common.images import fit
from vqclip.models.vqgan import VQGAN

LONGEST = 512
"""Pixels of the longer side that a larger picture is reduced to when no size is asked for."""


@dataclass(frozen=True)
class Reconstruction:
    """`original` and `picture` (3, H, W) in [0, 1], the `codes` (h, w) between them, and the PSNR in dB."""

    original: Tensor
    picture: Tensor
    codes: Tensor
    psnr: float

    @property
    def used(self) -> int:
        """How many different codes the picture takes."""
        return len(self.codes.unique())


@torch.no_grad()
def reconstruct(vqgan: VQGAN, image: Image.Image, size: tuple[int, int] | None = None) -> Reconstruction:
    """Encode a picture, take the nearest codes, decode them. Both sides become multiples of the VQGAN's factor.

    `size` (width, height) crops to its aspect; without it the picture keeps its own, at most LONGEST pixels long.
    """
    width, height = size or _at_most(image.size, LONGEST)
    sides = tuple(max(1, math.floor(side / vqgan.factor + 0.5)) * vqgan.factor for side in (width, height))
    original = fit(image, (sides[0], sides[1])).to(vqgan.codebook.device)
    codes = vqgan.codes(vqgan.encode(original))
    picture = vqgan.decode(vqgan.lookup(codes)).clamp(0, 1)
    return Reconstruction(original[0], picture[0], codes[0], psnr(original, picture))


def psnr(one: Tensor, other: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [0, 1]; infinite for equal ones."""
    error = float((one - other).square().mean())
    return -10 * math.log10(error) if error else math.inf


def side_by_side(found: Reconstruction) -> Tensor:
    """The original at the left and the reconstruction at the right, (3, H, 2 W)."""
    return torch.cat([found.original, found.picture], 2)


def _at_most(size: tuple[int, int], longest: int) -> tuple[int, int]:
    scale = min(1.0, longest / max(size))
    return round(size[0] * scale), round(size[1] * scale)
