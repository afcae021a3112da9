"""Noise on the latent while its gradient is taken, which falls to nothing."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

QUIET = 2 / 3
"""Progress from which on there is none."""


class LatentNoise:
    """Normal noise of deviation `scale`, which broadcasts to a latent (N, …), by half a cosine from 1 to 0 at QUIET.

    Picks up a latent that fits a neighbourhood, not one point: the token noise of L. Lao et al., "Highly Compressed
    Tokenizer Can Generate Without Training" (2025, https://arxiv.org/abs/2506.08257). `rngs` are one per picture, on
    the latent's device.
    """

    def __init__(self, scale: Tensor, rngs: Sequence[Generator]) -> None:
        self.scale, self.rngs = scale, rngs

    def __call__(self, latent: Tensor, progress: float) -> Tensor:
        """Draw what to add at this progress in [0, 1)."""
        left = max(0.0, 1 - progress / QUIET)
        noise = torch.stack(
            [torch.empty_like(each).normal_(generator=rng) for each, rng in zip(latent, self.rngs, strict=True)]
        )
        return noise * (self.scale * (1 - math.cos(math.pi * left)) / 2)
