"""The mask as a stage between what draws and what sees: new pictures pasted over the original."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


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
        return torch.lerp(under, pictures, cover)


def _in_size(images: Tensor, size: torch.Size) -> Tensor:
    return images if images.shape[-2:] == size else F.adaptive_avg_pool2d(images, (size[0], size[1]))
