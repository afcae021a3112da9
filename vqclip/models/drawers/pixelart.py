"""Cells of one colour each, in squares, hexagons or diamonds, as coarse or fine as one likes."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from vqclip.models.drawers.drawer import Drawer, Space
from vqclip.models.drawers.lattice import Shape, lay
from vqclip.models.drawers.paints import Paint
from vqclip.models.drawers.svg import document, hexadecimal


class Pixelart(Drawer):
    """Latents ◀─▶ pictures of `size` (H, W) in M cells of a `shape`, `cell` pixels wide.

    A latent holds what `paint` has for as many cells.
    """

    def __init__(self, size: tuple[int, int], device: torch.device, cell: int, shape: Shape, paint: Paint) -> None:
        self.size, self.cell, self.shape, self.paint = size, cell, shape, paint
        places, self.centres = lay(shape, size, cell)
        self.places, self.area = places.to(device), places.flatten().bincount().to(device)
        low, high = (bound.to(device) for bound in paint.bounds(len(self.centres)))
        self.space = Space((low, high), torch.where(high.isinf(), 1.0, 0.25))

    def noise(self, rngs: Sequence[Generator]) -> Tensor:
        """Draw each cell on its own."""
        return self.paint.noise(len(self.centres), rngs).to(self.places.device)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Give each cell its mean colour, as nearly as the paint has it."""
        pixels = images.to(self.places.device).flatten(2)
        total = pixels.new_zeros(len(images), 3, len(self.centres)).index_add_(2, self.places.flatten(), pixels)
        return self.paint.mix(total / self.area)

    def render(self, numbers: Tensor) -> Tensor:
        """Return the pictures."""
        return self.paint.colours(numbers)[..., self.places]

    def svg(self, latent: Tensor) -> str:
        """Write one picture's latent as a polygon for each cell."""
        colours = self.paint.colours(latent[None])[0].T
        return document(self.size, map(self._polygon, self.centres.tolist(), colours), crisp=True)

    def _polygon(self, centre: Sequence[float], colour: Tensor) -> str:
        points = " ".join(f"{centre[0] + self.cell * x:g},{centre[1] + self.cell * y:g}" for x, y in self.shape.corners)
        return f'<polygon points="{points}" fill="{hexadecimal(colour)}"/>'
