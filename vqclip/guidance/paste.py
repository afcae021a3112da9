"""The mask as a stage between what draws and what sees: new pictures pasted over the original."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

SQUARES = 16
"""Squares along the short side in which what is pasted and what lies under it are compared."""


class Pasted:
    """Renders latents, and shows of the pictures only what `cover` (1, 1, H, W) lets through over `under` (1, 3, H, W).

    Both in [0, 1]; a smaller picture is pasted over a smaller original. Guides and sinks see the same; the gradient is
    the picture's where it shows.
    """

    def __init__(self, render: Callable[[Tensor], Tensor], under: Tensor, cover: Tensor) -> None:
        self.render, self.under, self.cover = render, under, cover

    def __call__(self, latent: Tensor) -> Tensor:
        """Return the pictures (N, 3, h, w)."""
        pictures = self.render(latent)
        under, cover = (_in_size(each, pictures.shape[-2:]) for each in (self.under, self.cover))
        return torch.lerp(under, levelled(pictures, under, cover), cover)


def levelled(pictures: Tensor, under: Tensor, cover: Tensor) -> Tensor:
    """Bring the tone of pictures (N, 3, h, w) to that of what they are pasted over, beside the place where they show.

    What both differ by outside of it, in squares, goes on into it for one more. Else a drawer's own shade of a plain
    ground ends in an edge. The gradient passes as if nothing were done.
    """
    height, width = pictures.shape[-2:]
    grid = (max(1, height * SQUARES // min(height, width)), max(1, width * SQUARES // min(height, width)))
    known = (cover == 0).to(pictures.dtype)
    plain = pictures.detach()
    differ = (under - plain) * known
    total, share = (F.avg_pool2d(F.adaptive_avg_pool2d(each, grid), 3, 1, 1) for each in (differ, known))
    shift = F.interpolate(total / share.clamp(min=0.5), (height, width), mode="bilinear", align_corners=False)
    return pictures + ((plain + shift).clamp(0, 1) - plain)


def _in_size(images: Tensor, size: torch.Size) -> Tensor:
    return images if images.shape[-2:] == size else F.adaptive_avg_pool2d(images, (size[0], size[1]))
