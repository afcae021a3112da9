"""Pixels, as a pyramid of pictures that are added up: coarse ones move much at once, fine ones a pixel.

S. Fort and J. Whitaker, "Direct Ascent Synthesis: Revealing Hidden Generative Capabilities in Discriminative Models"
(2025, https://arxiv.org/abs/2502.07753), there with a picture of every side; here their sides double.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vqclip.models.drawers.drawer import Drawer, unbounded

NOISE = 0.05
"""Deviation of each layer's numbers at the start; nothing is seen of it, but no two seeds begin alike."""

EXTREME = 1e-3
"""How near to 0 and 1 an encoded pixel may be, as a logit has no end."""


class Pixels(Drawer):
    """Latents (N, L) ◀─▶ pictures of `size` (H, W): the layers' numbers one after the other, each (3, h, w).

    A picture is the sigmoid of the layers' sum, each enlarged bicubically; layers of 1 x 1, 2 x 2, 4 x 4… and the
    picture's own size.
    """

    def __init__(self, size: tuple[int, int], device: torch.device) -> None:
        self.size, self.device = size, device
        self.layers = _layers(size)
        self.space = unbounded(torch.ones((), device=device))

    def noise(self, rngs: Sequence[Generator]) -> Tensor:
        """Draw a little of everything, around mid-grey."""
        length = sum(3 * height * width for height, width in self.layers)
        return torch.stack([NOISE * torch.randn(length, generator=rng) for rng in rngs]).to(self.device)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Put into each layer what the coarser ones leave; the finest one leaves nothing."""
        rest = images.to(self.device, torch.promote_types(images.dtype, torch.float32)).logit(EXTREME)
        parts = []
        for layer in self.layers:
            part = F.interpolate(rest, layer, mode="area")
            rest = rest - _enlarged(part, self.size)
            parts.append(part.flatten(1))
        return torch.cat(parts, 1)

    def render(self, numbers: Tensor) -> Tensor:
        """Return the pictures."""
        parts = numbers.split([3 * height * width for height, width in self.layers], dim=1)
        pairs = zip(parts, self.layers, strict=True)
        layers = [_enlarged(part.unflatten(1, (3, *layer)), self.size) for part, layer in pairs]
        return torch.stack(layers).sum(0).sigmoid()


def _layers(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Heights and widths of the layers, coarse to fine: the short side 1, 2, 4… and at last as it is."""
    short = min(size)
    sides = [2**power for power in range((short - 1).bit_length())]
    return [*((max(1, round(side * size[0] / short)), max(1, round(side * size[1] / short))) for side in sides), size]


def _enlarged(layer: Tensor, size: tuple[int, int]) -> Tensor:
    """A layer (N, 3, h, w) in the picture's size; the same where it has that."""
    return layer if layer.shape[-2:] == size else F.interpolate(layer, size, mode="bicubic", align_corners=False)
