"""Strokes: Bezier curves with a width, painted one over the other, brushes of all colours or lines of one ink.

What K. Frans, L. B. Soros and O. Witkowski draw with diffvg in "CLIPDraw: Exploring Text-to-Drawing Synthesis through
Language-Image Encoders" (2021, https://arxiv.org/abs/2106.14843), here in plain torch: a pixel is covered by how near
it is to the curve.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vqclip.models.drawers.drawer import Drawer, Space
from vqclip.models.drawers.svg import document, hexadecimal

POINTS = 4
"""Of a curve: a cubic one."""

PIECES = 6
"""Straight ones that a curve is drawn with."""

EDGE = 1.5
"""Pixels over which a stroke's edge goes from covered to not."""

TINY = 1e-6
"""Squared pixels that keep the slope of a distance finite at the curve."""

THIN = 0.2
"""The least width over the greatest."""

MARGIN = 0.1
"""How far beyond the picture a point may lie, as a share of the side."""

REACH = 0.15
"""The most that a point of a random stroke is away from the one before, as a share of the side."""

FITTING, RATE = 80, 0.02
"""Steps of Adam, and their size, in which strokes are fitted to a given picture."""

GOLDEN = (0.7548776662, 0.5698402910)
"""Steps of places that are spread evenly however many there are (M. Roberts, "The Unreasonable Effectiveness of
Quasirandom Sequences", 2018)."""


class Strokes(Drawer):
    """Latents (N, S, P) ◀─▶ pictures of `size` (H, W): S = `count` strokes, each painted over those before.

    A stroke's numbers, about in [0, 1]: its points (x, y as shares of the sides), its width, from THIN to all of
    `width` (a share of the short side), and without an `ink` (3,) its colour and opacity. `paper` (3,) lies under them.
    """

    def __init__(
        self,
        size: tuple[int, int],
        device: torch.device,
        count: int,
        width: float,
        paper: Tensor,
        ink: Tensor | None = None,
    ) -> None:
        self.size, self.device, self.count = size, device, count
        self.width = width * min(size)
        self.paper, self.ink = paper.to(device), None if ink is None else ink.to(device)
        margins = torch.tensor([MARGIN] * (2 * POINTS) + [0.0] * (1 if ink is not None else 5), device=device)
        self.space = Space((-margins, 1 + margins), torch.full_like(margins, 0.1))

    def noise(self, rngs: Sequence[Generator]) -> Tensor:
        """Draw strokes anywhere."""
        return torch.stack([self._scattered(rng) for rng in rngs]).to(self.device)

    def _scattered(self, rng: Generator) -> Tensor:
        first = torch.rand(self.count, 1, 2, generator=rng)
        steps = REACH * (2 * torch.rand(self.count, POINTS - 1, 2, generator=rng) - 1)
        points = torch.cat([first, steps], 1).cumsum(1).clamp(-MARGIN, 1 + MARGIN)
        looks = torch.rand(self.count, len(self.space.spread) - 2 * POINTS, generator=rng)
        return torch.cat([points.flatten(1), looks], 1)

    def encode(self, images: Tensor) -> Tensor:
        """Spread strokes evenly, and fit them to the pictures."""
        images = images.to(self.device)
        fitted = self._spread().expand(len(images), -1, -1).clone().requires_grad_()
        optimiser = torch.optim.Adam([fitted], lr=RATE)
        with torch.enable_grad():
            for _ in range(FITTING):
                (error,) = torch.autograd.grad((self.render(fitted) - images).square().mean((1, 2, 3)).sum(), fitted)
                fitted.grad = error
                optimiser.step()
                with torch.no_grad():
                    fitted.clamp_(*self.space.bounds)
        return fitted.detach()

    def _spread(self) -> Tensor:
        """Strokes (S, P) all over a picture, broad ones first, each in another direction."""
        numbers = torch.arange(self.count, device=self.device, dtype=torch.float32)
        middles = (0.5 + numbers[:, None] * torch.tensor(GOLDEN, device=self.device)).remainder(1)
        angles = numbers * torch.pi * GOLDEN[0]
        along = torch.linspace(-1, 1, POINTS, device=self.device)[:, None] * REACH
        directions = torch.stack([angles.cos(), angles.sin()], -1)[:, None]
        points = (middles[:, None] + along * directions).flatten(1)
        looks = points.new_full((self.count, len(self.space.spread) - 2 * POINTS), 0.5)
        looks[:, 0] = torch.linspace(1, 0, self.count, device=self.device)
        return torch.cat([points, looks], 1).clamp(*self.space.bounds)

    def render(self, numbers: Tensor) -> Tensor:
        """Return the pictures."""
        pictures = self.paper.to(numbers).view(1, 3, 1, 1).expand(len(numbers), 3, *self.size)
        for stroke in range(numbers.shape[1]):
            colour, opacity = self._paint(numbers[:, stroke])
            cover = opacity[:, None, None, None] * self.coverage(numbers[:, stroke : stroke + 1])
            pictures = torch.lerp(pictures, colour[:, :, None, None], cover)
        return pictures

    def _paint(self, stroke: Tensor) -> tuple[Tensor, Tensor]:
        """Colours (N, 3) and opacities (N,) of strokes (N, P)."""
        if self.ink is not None:
            return self.ink.to(stroke).expand(len(stroke), 3), stroke.new_ones(len(stroke))
        return stroke[:, 2 * POINTS + 1 : 2 * POINTS + 4], stroke[:, 2 * POINTS + 4]

    def coverage(self, numbers: Tensor) -> Tensor:
        """How much strokes (N, S, P) cover of each pixel, (N, S, H, W): all at the curve, half at the edge."""
        widths = self.width * (THIN + (1 - THIN) * numbers[..., 2 * POINTS])
        pairs = zip(self._polyline(numbers).flatten(0, 1), widths.flatten(), strict=True)
        return torch.stack([self._cover(line, width) for line, width in pairs]).unflatten(0, numbers.shape[:2])

    def _cover(self, line: Tensor, width: Tensor) -> Tensor:
        """How much one stroke with these ends (E, 2) of its pieces covers, (H, W); only what is near is looked at."""
        left, top, right, bottom = self._box(line, width)
        down, across = (
            torch.arange(first, last, device=line.device, dtype=line.dtype) + 0.5
            for first, last in ((top, bottom), (left, right))
        )
        far = (_squares(across, down, line).amin(0) + TINY).sqrt()
        inside = (0.5 + (width / 2 - far) / EDGE).clamp(0, 1)
        return F.pad(inside, (left, self.size[1] - right, top, self.size[0] - bottom))

    @torch.no_grad()
    def _box(self, line: Tensor, width: Tensor) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of what a stroke may cover; all of the picture where asking would halt a GPU."""
        height, across = self.size
        if line.device.type != "cpu":
            return 0, 0, across, height
        reach = width / 2 + EDGE
        left, top = (line.amin(0) - reach).floor().int().tolist()
        right, bottom = (line.amax(0) + reach).ceil().int().tolist()
        left, top = min(max(0, left), across), min(max(0, top), height)
        return left, top, max(left, min(right, across)), max(top, min(bottom, height))

    def _polyline(self, numbers: Tensor) -> Tensor:
        """The curves as straight pieces: their ends (N, S, PIECES + 1, 2) in pixels."""
        height, width = self.size
        points = numbers[..., : 2 * POINTS].unflatten(-1, (POINTS, 2)) * numbers.new_tensor([width, height])
        at = torch.linspace(0, 1, PIECES + 1, device=numbers.device, dtype=numbers.dtype)
        weights = torch.stack([(1 - at) ** 3, 3 * at * (1 - at) ** 2, 3 * at**2 * (1 - at), at**3], -1)
        return weights @ points

    def svg(self, latent: Tensor) -> str:
        """Write one picture's latent (S, P) as a path for each stroke, over the paper."""
        height, width = self.size
        ground = f'<rect width="{width}" height="{height}" fill="{hexadecimal(self.paper)}"/>'
        return document(self.size, [ground, *map(self._path, latent)])

    def _path(self, stroke: Tensor) -> str:
        height, width = self.size
        points = stroke[: 2 * POINTS].view(POINTS, 2).tolist()
        first, *others = (f"{x * width:.2f},{y * height:.2f}" for x, y in points)
        colour, opacity = self._paint(stroke[None])
        thick = self.width * (THIN + (1 - THIN) * float(stroke[2 * POINTS]))
        return (
            f'<path d="M{first} C{" ".join(others)}" fill="none" stroke="{hexadecimal(colour[0])}" '
            f'stroke-width="{thick:.2f}" stroke-opacity="{float(opacity[0]):.3f}" stroke-linecap="round"/>'
        )


def _squares(across: Tensor, down: Tensor, line: Tensor) -> Tensor:
    """The squared distances of pixels, `across` (W,) and `down` (H,), to the pieces of a line (E, 2), (E - 1, H, W)."""
    (x, y), (along, up) = line[:-1].T[..., None, None], line.diff(dim=0).T[..., None, None]
    right, below = across - x, down[:, None] - y
    share = ((right * along + below * up) / (along.square() + up.square()).clamp(min=TINY)).clamp(0, 1)
    return (right - share * along).square() + (below - share * up).square()
