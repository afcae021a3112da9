"""What colours cells may have: any, those of a palette, or a few that are found while drawing.

With a palette a cell holds a vote for each colour; the one with most is shown, and the gradient is that of the softmax
(straight-through: Y. Bengio, N. Leonard and A. Courville, 2013, https://arxiv.org/abs/1308.3432).

Shapes: N pictures, M cells, K colours of a palette.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

SURE = 20.0
"""Votes that a colour loses where it is 1 away from a given one, in squared distance."""

UNSURE = 0.1
"""Deviation of votes that nobody gave: far less than what the guides make of them, which would else stay speckled."""

ROUNDS = 10
"""Of Lloyd's algorithm, which finds a few colours for given cells (k-means)."""


class Paint(Protocol):
    """Numbers (N, K, …) ◀─▶ the colours (N, 3, M) of cells, in [0, 1]."""

    def bounds(self, cells: int) -> tuple[Tensor, Tensor]:
        """Return the lowest and highest value of the numbers for so many cells; they broadcast."""

    def noise(self, cells: int, rngs: Sequence[Generator]) -> Tensor:
        """Draw numbers at random, on the CPU."""

    def mix(self, colours: Tensor) -> Tensor:
        """Return the numbers whose colours are nearest to these."""

    def colours(self, numbers: Tensor) -> Tensor:
        """Return the colours, with a gradient."""


class AnyColour(Paint):
    """The numbers (N, 3, M) are the colours."""

    def bounds(self, cells: int) -> tuple[Tensor, Tensor]:
        """Colours lie in [0, 1]."""
        return torch.zeros(()), torch.ones(())

    def noise(self, cells: int, rngs: Sequence[Generator]) -> Tensor:
        """Draw colours."""
        return torch.stack([torch.rand(3, cells, generator=rng) for rng in rngs])

    def mix(self, colours: Tensor) -> Tensor:
        """Return them."""
        return colours

    def colours(self, numbers: Tensor) -> Tensor:
        """Return them."""
        return numbers


class Palette(Paint):
    """The numbers (N, K, M) are votes for the colours (K, 3) of a palette."""

    def __init__(self, palette: Tensor) -> None:
        self.palette = palette

    def bounds(self, cells: int) -> tuple[Tensor, Tensor]:
        """Votes have no bounds."""
        return torch.tensor(-torch.inf), torch.tensor(torch.inf)

    def noise(self, cells: int, rngs: Sequence[Generator]) -> Tensor:
        """Draw votes."""
        return UNSURE * torch.stack([torch.randn(len(self.palette), cells, generator=rng) for rng in rngs])

    def mix(self, colours: Tensor) -> Tensor:
        """Vote for what is near."""
        return _votes(colours, self.palette.to(colours).expand(len(colours), -1, -1))

    def colours(self, numbers: Tensor) -> Tensor:
        """Return each cell's colour."""
        return self.palette.to(numbers).T @ _elected(numbers)


class FewColours(Paint):
    """The numbers (N, K, M + 3) are votes for as many colours, and behind these the colours themselves."""

    def __init__(self, count: int) -> None:
        self.count = count

    def bounds(self, cells: int) -> tuple[Tensor, Tensor]:
        """Colours lie in [0, 1], votes anywhere."""
        colour = torch.arange(cells + 3) >= cells
        return torch.where(colour, 0.0, -torch.inf), torch.where(colour, 1.0, torch.inf)

    def noise(self, cells: int, rngs: Sequence[Generator]) -> Tensor:
        """Draw votes, and colours."""
        votes = UNSURE * torch.stack([torch.randn(self.count, cells, generator=rng) for rng in rngs])
        return torch.cat([votes, torch.stack([torch.rand(self.count, 3, generator=rng) for rng in rngs])], -1)

    def mix(self, colours: Tensor) -> Tensor:
        """Find the colours that fit best, and vote for what is near."""
        palettes = _few(colours.mT, self.count)
        return torch.cat([_votes(colours, palettes), palettes], -1)

    def colours(self, numbers: Tensor) -> Tensor:
        """Return each cell's colour."""
        return numbers[..., -3:].mT @ _elected(numbers[..., :-3])


def _votes(colours: Tensor, palettes: Tensor) -> Tensor:
    """The votes (N, K, M) of cells (N, 3, M) for the colours (N, K, 3)."""
    return -SURE * torch.cdist(palettes, colours.mT).square()


def _elected(votes: Tensor) -> Tensor:
    """One for the colour with most votes (N, K, M), else zero; the gradient is that of the softmax."""
    soft = votes.softmax(1)
    return torch.zeros_like(soft).scatter_(1, votes.argmax(1, keepdim=True), 1.0) + (soft - soft.detach())


def _few(cells: Tensor, count: int) -> Tensor:
    """Palettes (N, K, 3) for cells (N, M, 3): first those far from one another, then means of the nearest."""
    palettes = cells.mean(1, keepdim=True)
    for _ in range(count - 1):
        farthest = torch.cdist(cells, palettes).amin(2).argmax(1)
        palettes = torch.cat([palettes, cells[torch.arange(len(cells)), farthest][:, None]], 1)
    for _ in range(ROUNDS):
        mine = F.one_hot(torch.cdist(cells, palettes).argmin(2), count).to(cells.dtype)
        members = mine.sum(1)[..., None]
        palettes = torch.where(members > 0, mine.mT @ cells / members.clamp(min=1), palettes)
    return palettes
