"""A VQGAN as a drawer: its latent is a grid of the codebook's entries."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vqclip.models.drawers.drawer import Drawer, Space
from vqclip.models.renderer import Renderer
from vqclip.models.vqgan import VQGAN

STAYS = 0.9
"""The part of a cell that must be kept for its code to stay."""


class VqganDrawer(Drawer):
    """Latents (N, C, h, w) of entries ◀─▶ pictures; it renders any size, and begins with `size` (H, W) in pixels, which
    are multiples of its factor.

    `space` is what is optimised for a latent, which `renderer` draws.
    """

    def __init__(self, vqgan: VQGAN, renderer: Renderer, space: Space, size: tuple[int, int]) -> None:
        self.vqgan, self.renderer, self.space, self.size = vqgan, renderer, space, size

    @property
    def grid(self) -> tuple[int, int]:
        """The cells (h, w) of the size."""
        return self.size[0] // self.vqgan.factor, self.size[1] // self.vqgan.factor

    def codes(self, rngs: Sequence[Generator]) -> Tensor:
        """Uniformly random codes (Crowson's notebooks, `one_hot @ codebook`)."""
        entries = self.vqgan.codebook.shape[0]
        codes = torch.stack([torch.randint(entries, self.grid, generator=rng) for rng in rngs])
        return self.vqgan.lookup(codes.to(self.vqgan.codebook.device))

    def noise(self, rngs: Sequence[Generator]) -> Tensor:
        """Uniform noise, each pixel on its own (nerdyrodent's `pixels`)."""
        return self.encode(torch.stack([torch.rand(3, *self.size, generator=rng) for rng in rngs]))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return the entries nearest to what the VQGAN sees."""
        return self.vqgan.quantise(self.vqgan.encode(images.to(self.vqgan.codebook.device)))

    def render(self, numbers: Tensor) -> Tensor:
        """Return the pictures."""
        return self.renderer(numbers)

    def blend(self, latent: Tensor, images: Tensor, kept: Tensor) -> Tensor:
        """Return a latent that has the pictures' own codes where a cell is kept, and this one's elsewhere."""
        return torch.where(stays(kept, latent.shape[-2:]).to(latent.device), self.encode(images), latent)

    def reduce_memory(self) -> bool:
        """Keep less of the decoder."""
        return self.renderer.reduce_memory()


def stays(kept: Tensor, grid: Sequence[int]) -> Tensor:
    """Which cells of a grid (h, w) stay, (N, 1, h, w): more than STAYS of them is `kept`, (N, 1, H, W) in [0, 1]."""
    return F.adaptive_avg_pool2d(kept, (grid[0], grid[1])) > STAYS
