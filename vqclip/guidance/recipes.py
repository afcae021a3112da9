"""Recipes for cutouts: published augmentation pipelines, every number of them as a field.

A recipe is a tuple of looks; a look is a tuple of warps, in the order in which they happen to the
picture. The published numbers were read from the repositories named at each recipe; what they mean, from
kornia.augmentation, which those use.

Shapes: N pictures, K cutouts. Random numbers are (N, K, randoms) in [0, 1).
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vqclip.guidance.warps import Affine, Flip, Letterbox, Perspective, ResizedCrop, Square, Warp

LUMA = (0.299, 0.587, 0.114)  # grey of RGB by ITU-R BT.601, as in kornia and torchvision


@dataclass(frozen=True)
class Jitter:
    """Change colours with probability `p`: factors from 1 -+ value, `hue` in turns from -+ value."""

    p: float
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    randoms: ClassVar[int] = 5

    def colour(self, u: Tensor) -> Tensor:
        """Compose brightness, contrast (about mid-grey), saturation and hue into (N, K, 3, 4).

        The last column is added. The published tools apply them in random order, contrast about the
        mean in some kornia versions, and clamp; a matrix in a fixed order is the same family. Hue is a
        rotation about the grey axis.
        """
        even = 2 * u - 1
        brightness, contrast = 1 + self.brightness * even[..., 0], 1 + self.contrast * even[..., 1]
        saturation = (1 + self.saturation * even[..., 2])[..., None, None]
        angle = (2 * math.pi * self.hue * even[..., 3])[..., None, None]
        eye = torch.eye(3, dtype=u.dtype)
        cross = u.new_tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
        grey = u.new_tensor(LUMA).expand(3, 3)
        rotate = angle.cos() * eye + (1 - angle.cos()) / 3 + angle.sin() * cross  # Rodrigues, axis (1, 1, 1)
        matrix = rotate @ (saturation * eye + (1 - saturation) * grey) * (contrast * brightness)[..., None, None]
        offset = ((1 - contrast) / 2)[..., None, None].expand(*u.shape[:2], 3, 1)
        off = torch.eye(3, 4, dtype=u.dtype)
        return torch.where((u[..., 4] < self.p)[..., None, None], torch.cat([matrix, offset], dim=-1), off)


@dataclass(frozen=True)
class Sharpen:
    """With probability `p` replace the cutout by blur + f * (cutout - blur), f from [0, most].

    kornia's RandomSharpness; with `most` below 1 it softens, as in the notebooks that use it.
    """

    most: float
    p: float
    randoms: ClassVar[int] = 2

    def factor(self, u: Tensor) -> Tensor:
        """Draw f (N, K), 1 where nothing changes."""
        return torch.where(u[..., 1] < self.p, self.most * u[..., 0], 1.0)


@dataclass(frozen=True)
class Erase:
    """With probability `p` black out one box, the same in all cutouts of a picture's step.

    `area` is its share of the cutout, `ratio` its height/width (kornia's and torchvision's RandomErasing).
    """

    area: tuple[float, float]
    ratio: tuple[float, float]
    p: float
    randoms: ClassVar[int] = 6

    def box(self, u: Tensor) -> Tensor:
        """Draw left, top, right, bottom (N, K, 4) in [0, 1], all equal where nothing is erased."""
        low, high = self.ratio
        area = self.area[0] + (self.area[1] - self.area[0]) * u[..., 0]
        flat, tall = low + (1 - low) * u[..., 2], 1 + (high - 1) * u[..., 2]  # both halves equally often
        ratio = torch.where(u[..., 1] < 0.5, flat, tall)
        width, height = (area / ratio).sqrt().clamp(max=1), (area * ratio).sqrt().clamp(max=1)
        left, top = u[..., 3] * (1 - width), u[..., 4] * (1 - height)
        box = torch.stack([left, top, left + width, top + height], dim=-1)
        return box * (u[..., 5:] < self.p)


@dataclass(frozen=True)
class Look:
    """One way of seeing the picture, used by a `share` of the cutouts and by `least` of them; each counts `weight`."""

    warps: tuple[Warp, ...]
    share: float = 1.0
    least: int = 0
    weight: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """How cutouts are made.

    `pooled`: the views are taken of (average + maximum) / 2 of the picture pooled to the cut size,
    instead of the picture itself. `noise`: each cutout gets u * N(0, 1), u from [0, noise]. `by_size`: a cutout
    counts, besides its look's weight, as much of the picture's side as it shows.
    The sum of the looks' shares is 1.
    """

    looks: tuple[Look, ...]
    pooled: bool = False
    sharpen: Sharpen | None = None
    jitter: Jitter | None = None
    erase: Erase | None = None
    noise: float = 0.0
    by_size: bool = False


GENTLE = (Affine(degrees=10, translate=0.05, scale=(0.9, 1.1), p=0.8), Perspective(0.2, p=0.5))

# Ours: large square windows, gently moved. No flip, as prompts say "to the left of", and little hue,
# as they name colours. All warps see the picture itself beyond their frames, mirrored at its edge.
VQCLIP = Recipe(
    looks=(Look((Square(least=0.7, power=0.5, padding="reflection"), *GENTLE)),),
    jitter=Jitter(p=0.7, brightness=0.1, contrast=0.1, saturation=0.1, hue=0.01),
    noise=0.1,
)

# Katherine Crowson's VQGAN+CLIP (z+quantize method) notebook in its later, augmented form, with the
# random squares of the first; kept by nerdyrodent as `updated` and by rkhamilton as `kornia`.
CROWSON = Recipe(
    looks=(
        Look(
            (
                Square(power=1.0),
                Flip(p=0.5),
                Affine(degrees=30, translate=0.1, p=0.8, padding="border"),
                Perspective(0.2, p=0.4, padding="zeros"),
            )
        ),
    ),
    sharpen=Sharpen(0.3, p=0.4),
    jitter=Jitter(p=0.7, hue=0.01, saturation=0.01),
    noise=0.1,
)

# nerdyrodent/VQGAN-CLIP 592d555, generate.py, `latest` with its default augments Af Pe Ji Er.
NERDYRODENT = Recipe(
    pooled=True,
    looks=(
        Look(
            (
                Affine(degrees=15, translate=0.1, shear=5, p=0.7, padding="zeros"),
                Perspective(0.7, p=0.7, padding="zeros"),
            )
        ),
    ),
    jitter=Jitter(p=0.7, brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1),
    erase=Erase(area=(0.1, 0.4), ratio=(0.3, 1 / 0.3), p=0.7),
    noise=0.1,
)

# pixray/pixray 37b03cf, pixray.py: 60 % zoomed views, 40 % of the whole. pixray alternates the zoom's
# padding from one iteration to the next; here a coin does, so that a step needs no memory.
PIXRAY = Recipe(
    pooled=True,
    looks=(
        Look(
            (
                Perspective(0.4, p=0.7, padding="alternating"),
                ResizedCrop(area=(0.25, 0.95), ratio=(0.85, 1.2)),
            ),
            share=0.6,
        ),
        Look(
            (
                Letterbox(square=0.95, slack=0.9, padding="grey"),
                Perspective(0.2, p=0.7, padding="grey"),
            ),
            share=0.4,
        ),
    ),
    jitter=Jitter(p=0.8, saturation=0.1, hue=0.1),
    noise=0.1,
)

# Views that agree on one picture: a quarter show it whole and count three times, the others cover it evenly and count
# by their size, so that not every corner draws the whole prompt. After the `smart` cutouts and coherence weights of
# somnai-dreams/pytti-core (2026), whose windows are smaller; here they are large, and of what `vqclip` sees.
COHERENT = dataclasses.replace(
    VQCLIP,
    looks=(
        Look((Square(least=1.0, padding="reflection"), *GENTLE), share=0.25, least=2, weight=3.0),
        Look((Square(power=0.5, stratified=True, padding="reflection"), *GENTLE), share=0.75),
    ),
    by_size=True,
)

RECIPES: Mapping[str, Recipe] = {
    "vqclip": VQCLIP,
    "coherent": COHERENT,
    "crowson": CROWSON,
    "nerdyrodent": NERDYRODENT,
    "pixray": PIXRAY,
}
