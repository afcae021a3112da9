"""Waves: a picture's spectrum, in which one number is a wave over the whole picture, slow ones counting most.

The scale of 1/f, the colours without correlation and the deviation of the start are those of tensorflow/lucid
(lucid/optvis/param/spatial.py and color.py, 2018), which eps696/aphantasia took over. Theirs is the complex spectrum,
half of whose numbers are the others' mirror image; here it is the Hartley transform, real and its own inverse
(R. Bracewell, "Discrete Hartley Transform", 1983), so that every number counts once.
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from vqclip.models.drawers.drawer import Drawer, unbounded

DEVIATION = 0.01
"""Of the spectrum at the start (`sd`)."""

QUARTER = 4.0
"""What lucid divides the waves by."""

COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
"""The root of the covariance of red, green and blue over ImageNet (`color_correlation_svd_sqrt`): three directions that
vary on their own, in the columns."""

EXTREME = 1e-3
"""How near to 0 and 1 an encoded pixel may be, as a logit has no end."""


class Fourier(Drawer):
    """Spectra (N, 3, H, W) ◀─▶ pictures of `size` (H, W). A wave of f cycles a pixel counts 1 / f ** `decay` times."""

    def __init__(self, size: tuple[int, int], device: torch.device, decay: float = 1.0) -> None:
        self.size = size
        frequencies = torch.hypot(torch.fft.fftfreq(size[0])[:, None], torch.fft.fftfreq(size[1]))
        self.scale = (frequencies.clamp(min=1 / max(size)) ** -decay / QUARTER).to(device)
        colours = torch.tensor(COLOURS)
        self.colours = (colours / colours.norm(dim=0).max()).to(device)
        self.uncoloured = torch.linalg.inv(colours / colours.norm(dim=0).max()).to(device)
        self.space = unbounded(torch.ones((), device=device))

    def noise(self, rngs: Sequence[Generator]) -> Tensor:
        """Draw every wave a little."""
        spectra = [DEVIATION * torch.randn(3, *self.size, generator=rng) for rng in rngs]
        return torch.stack(spectra).to(self.scale.device)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return the spectrum exactly, but for EXTREME."""
        waves = _mixed(images.to(self.scale).logit(EXTREME), self.uncoloured)
        return hartley(waves) / self.scale

    def render(self, numbers: Tensor) -> Tensor:
        """Return the pictures."""
        return torch.sigmoid(_mixed(hartley(numbers * self.scale), self.colours))


def hartley(values: Tensor) -> Tensor:
    """The Hartley transform of the last two dimensions of (…, H, W), which is its own inverse: sums of cos + sin."""
    spectrum = torch.fft.fft2(values, norm="ortho")
    return spectrum.real - spectrum.imag


def _mixed(channels: Tensor, matrix: Tensor) -> Tensor:
    """Each pixel of (N, 3, H, W) times a matrix (3, 3)."""
    return torch.einsum("ij,njhw->nihw", matrix.to(channels.dtype), channels)
