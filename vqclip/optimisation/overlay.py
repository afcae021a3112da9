"""A picture laid over the one that is drawn, again and again while the loop runs; pixray and pytti call it an overlay.

What comes of it is encoded, so the latent goes on from there: the guides and the overlay take turns. It follows from
the number of the update alone, so a run that goes on does as one that was never stopped.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Overlay:
    """A `picture` (1, 3, H, W) in [0, 1] that covers `alpha` of what is drawn, before the update after `begin` others
    and after every `every` further ones, but not after `end`.

    `show` turns numbers into pictures (N, 3, h, w), `take` such pictures into numbers.
    """

    picture: Tensor
    alpha: float
    every: int
    begin: int
    end: int
    show: Callable[[Tensor], Tensor]
    take: Callable[[Tensor], Tensor]

    def is_due(self, number: int) -> bool:
        """Whether the picture is laid over before the update after `number` others."""
        return self.begin <= number <= self.end and (number - self.begin) % self.every == 0

    @torch.no_grad()
    def __call__(self, latent: Tensor, number: int, total: int) -> bool:
        """Lay the picture over, where that is due, and say if it was."""
        if not self.is_due(number):
            return False
        drawn = self.show(latent)
        over = F.interpolate(self.picture, drawn.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)
        latent.copy_(self.take(torch.lerp(drawn, over.to(drawn), self.alpha)))
        return True
