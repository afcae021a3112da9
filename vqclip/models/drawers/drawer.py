"""What every drawer is: how numbers become pictures of one size, how pictures become numbers, and where to begin."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Space:
    """What is optimised for a latent (N, …): the latent itself, or numbers that it follows from.

    `bounds` are the lowest and highest value, `spread` the deviation that noise is measured in; all broadcast.
    """

    bounds: tuple[Tensor, Tensor]
    spread: Tensor
    enter: Callable[[Tensor], Tensor] = lambda latent: latent
    leave: Callable[[Tensor], Tensor] = lambda numbers: numbers


@runtime_checkable
class Vector(Protocol):
    """What a drawer has besides whose pictures are made of shapes."""

    def svg(self, latent: Tensor) -> str:
        """Write one picture's latent as an SVG document of the drawer's size."""


class Drawer(Protocol):
    """Latents (N, …) of any shape ◀─▶ pictures (N, 3, H, W) in [0, 1] of the `size` (H, W) that it was made for.

    Each picture depends on its own latent alone. A drawer that inherits from this has to say the first five.
    """

    size: tuple[int, int]
    space: Space

    def noise(self, rngs: Sequence[Generator]) -> Tensor:
        """Draw a latent that shows nothing, on the drawer's device, one picture for each CPU generator."""

    def encode(self, images: Tensor) -> Tensor:
        """Return the latent of pictures (N, 3, H, W), without a gradient; the same pictures give the same latent."""

    def render(self, numbers: Tensor) -> Tensor:
        """Return the pictures of what the space has for a latent, with a gradient to every number."""

    def reduce_memory(self) -> bool:
        """Need less memory from now on, for the same pictures; return False if that cannot be."""
        return False


def unbounded(spread: Tensor) -> Space:
    """The space of numbers that may be anything, with this deviation."""
    everything = torch.full_like(spread, torch.inf)
    return Space((-everything, everything), spread)
