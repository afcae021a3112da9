"""Outlines: soft edges become steep and smooth, weak ones fade, as in a drawing of flat colours.

A shock filter whose direction comes from the structure tensor: coherence-enhancing shock filtering (Weickert 2003,
https://doi.org/10.1007/978-3-540-45243-0_1) with curvature flow along the edge (Alvarez & Mazorra 1994,
https://doi.org/10.1137/0731032). On both sides of an edge, up to where its second derivative changes sign, the colours
of that side are carried towards it. All three channels are carried along the same way, so that no colours appear that
were not side by side. Where there is hardly an edge the picture diffuses, which takes a VQGAN's faint grid away.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TINY = 1e-5
"""Keeps ratios of squared gradients finite; colours are in [0, 1]."""


@dataclass(frozen=True)
class Structure:
    """At each place, (N, 1, h, w) each: the unit vector across the edge, as `cosine` and `sine`; how much of an edge
    there is, `edge` in [0, 1]; how fast and which way along the vector colours are carried, `pull` in [-1, 1].
    """

    cosine: Tensor
    sine: Tensor
    edge: Tensor
    pull: Tensor


@dataclass(frozen=True)
class Outlines:
    """Makes pictures (N, 3, h, w) in [0, 1] such.

    `steps` of length `step` move an edge's flanks by at most their product, in pixels. `scale` is the deviation of the
    Gaussian, in pixels, by which edges are looked for and directions averaged; `faint` the root of summed squared
    gradients (a pixel's difference) that is half an edge; `along` and `ground` weigh the smoothing along edges and
    where there are none; directions are found anew `every` so many steps.
    """

    steps: int = 14
    step: float = 0.5
    scale: float = 1.0
    faint: float = 0.03
    along: float = 0.05
    ground: float = 0.4
    every: int = 3

    @property
    def reach(self) -> int:
        """How many pixels around a pixel its result depends on, in each direction."""
        looks = -(-self.steps // self.every)
        return self.steps + looks * (2 * _radius(self.scale) + 1)

    def __call__(self, images: Tensor) -> Tensor:
        """images (N, 3, h, w) in [0, 1], whatever h and w; no colour leaves the range."""
        for number in range(self.steps):
            if number % self.every == 0:
                found = self._structure(images)
            images = (images + self.step * self._change(images, found)).clamp(0, 1)
        return images

    def _structure(self, images: Tensor) -> Structure:
        smooth = _blurred(images, self.scale)
        x, y, xx, yy, xy = _derivatives(smooth)
        products = torch.cat([part.sum(1, keepdim=True) for part in (x * x, y * y, x * y)], 1)
        across, down, mixed = _blurred(products, self.scale).split(1, 1)
        angle = torch.atan2(2 * mixed, across - down) / 2
        cosine, sine = angle.cos(), angle.sin()
        slope = cosine * x + sine * y
        bend = cosine**2 * xx + 2 * cosine * sine * xy + sine**2 * yy
        strength = across + down
        edge = strength / (strength + self.faint**2)
        side = (slope * bend).sum(1, keepdim=True) / (slope.square().sum(1, keepdim=True) + TINY)
        return Structure(cosine, sine, edge, edge * torch.tanh(4 * side))

    def _change(self, images: Tensor, found: Structure) -> Tensor:
        """What a step of length 1 adds: carried colours (upwind), curvature flow, diffusion."""
        centre, left, right, above, below, xy = _neighbours(images)
        across, down = found.pull * found.cosine, found.pull * found.sine
        carried = torch.where(across > 0, across * (centre - left), across * (right - centre))
        carried = carried + torch.where(down > 0, down * (centre - above), down * (below - centre))
        xx, yy = right - 2 * centre + left, below - 2 * centre + above
        along = found.sine**2 * xx - 2 * found.cosine * found.sine * xy + found.cosine**2 * yy
        return self.along * found.edge * along + self.ground * (1 - found.edge) * (xx + yy) - carried


def _radius(scale: float) -> int:
    return max(1, round(3 * scale))


def _blurred(images: Tensor, scale: float) -> Tensor:
    """Convolve (N, C, h, w) with a Gaussian of this deviation; the border is repeated."""
    radius, channels = _radius(scale), images.shape[1]
    places = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-(places**2) / (2 * scale**2))
    weights = (weights / weights.sum()).expand(channels, 1, 1, -1)
    images = F.conv2d(F.pad(images, (radius, radius, 0, 0), "replicate"), weights, groups=channels)
    images = F.pad(images, (0, 0, radius, radius), "replicate")
    return F.conv2d(images, weights.transpose(2, 3), groups=channels)


def _neighbours(images: Tensor) -> tuple[Tensor, ...]:
    """Each pixel, those to its left, right, above and below, and the mixed second derivative, (N, C, h, w) each."""
    padded = F.pad(images, (1, 1, 1, 1), "replicate")
    mixed = padded[..., 2:, 2:] + padded[..., :-2, :-2] - padded[..., 2:, :-2] - padded[..., :-2, 2:]
    rows, columns = padded[..., 1:-1], padded[..., 1:-1, :]
    return images, columns[..., :-2], columns[..., 2:], rows[..., :-2, :], rows[..., 2:, :], mixed / 4


def _derivatives(images: Tensor) -> tuple[Tensor, ...]:
    """First derivatives across and down, second ones across, down and mixed, by central differences."""
    centre, left, right, above, below, mixed = _neighbours(images)
    return (right - left) / 2, (below - above) / 2, right - 2 * centre + left, below - 2 * centre + above, mixed
