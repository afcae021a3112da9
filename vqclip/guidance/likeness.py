"""Losses that are told a file: how near pictures come to another's colours or style, or what a head thinks of them.

All see a picture in a size of their own, so that a weight means the same for a small and a large one.

Shapes: N pictures, C directions, Q quantiles, P places, D features.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.registry import pick
from vqclip.guidance.losses import LOSSES, TOLD, Loss

SIDE = 64
"""Short side of what colours are taken from."""

QUANTILES = 256

AXES = 16
"""Directions in the space of colours on which two sets of them are compared."""


Early = Callable[[Tensor], Tensor]
"""From pictures (N, 3, H, W) in [0, 1] to the features (N, P, D) of a guide's early layer."""


def colours(picture: Tensor) -> Loss:
    """Sliced Wasserstein distance, squared, between the colours of pictures and those of one (1, 3, H, W).

    On each of AXES directions the sorted colours are compared (Bonneel et al., "Sliced and Radon Wasserstein
    Barycenters of Measures", 2015), so the shares of the colours count, and not where they are.
    """
    rng = torch.Generator().manual_seed(0)
    axes = F.normalize(torch.randn(3, AXES, generator=rng, dtype=torch.float64), dim=0)
    wanted = _sorted_colours(picture, axes)

    def distance(images: Tensor) -> Tensor:
        return (_sorted_colours(images, axes) - wanted.to(images)).square().flatten(1).mean(1)

    return distance


def _sorted_colours(images: Tensor, axes: Tensor) -> Tensor:
    """The quantiles of pictures' colours along axes (3, C), (N, Q, C)."""
    height, width = images.shape[-2:]
    shrunk = max(1.0, min(height, width) / SIDE)
    small = F.adaptive_avg_pool2d(images, (round(height / shrunk), round(width / shrunk)))
    ordered = (small.flatten(2).mT @ axes.to(images)).sort(1).values
    return F.interpolate(ordered.mT, QUANTILES, mode="linear", align_corners=True).mT


def style(picture: Tensor, sights: Sequence[Early]) -> Loss:
    """Distance between Gram matrices of the guides' early features and those of one picture's, as a share of the
    latter: which features go together, wherever they are.

    L. Gatys, A. Ecker and M. Bethge, "Image Style Transfer Using Convolutional Neural Networks" (2016), equation 3,
    with the guides' own towers in place of VGG.
    """
    with torch.no_grad():
        wanted = [_gram(sight(picture)) for sight in sights]

    def distance(images: Tensor) -> Tensor:
        found = [_gram(sight(images)) for sight in sights]
        off = [(a - b).square().sum((1, 2)) / b.square().sum((1, 2)) for a, b in zip(found, wanted, strict=True)]
        return torch.stack(off).mean(0).to(images.dtype)

    return distance


def _gram(features: Tensor) -> Tensor:
    """The mean products of features (N, P, D), (N, D, D)."""
    return features.mT @ features / features.shape[1]


def aesthetic(weight: Tensor, bias: Tensor, embed: Callable[[Tensor], Tensor]) -> Loss:
    """How far the mark that a linear head gives pictures is from 10, squared, by pixray's factor of 0.02.

    `weight` (D,) and `bias` () are a head that was fitted to people's marks from 1 to 10; `embed` turns pictures into
    the unit vectors (N, D) that it reads.
    """

    def distance(images: Tensor) -> Tensor:
        mark = embed(images) @ weight.to(images) + bias.to(images)
        return 0.02 * (mark - 10).square()

    return distance


OF_FILES: Mapping[str, str] = {
    "colours": "photo.jpg",
    "style": "painting.jpg",
    "content": "photo.jpg",
    "aesthetic": "head.safetensors",
}
"""Losses that are told a file, with an example of one."""

OF_PICTURES = ("colours", "style", "content")
"""Those whose file is a picture."""


def file_of(spec: str) -> str | None:
    """Return the file that a loss `NAME:FILE` is told; None for the other losses.

    Raises:
        UsageError: an unknown name, or there is no file.
    """
    name, _, file = spec.partition(":")
    pick({**LOSSES, **TOLD, **OF_FILES}, name, "loss")
    if name not in OF_FILES:
        return None
    if not file:
        raise UsageError(f"The loss {name!r} needs a file, as in {name}:{OF_FILES[name]}.")
    return file
