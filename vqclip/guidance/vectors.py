"""Arithmetic of unit vectors: means, the way between two, and what turns one text into another."""

import torch
import torch.nn.functional as F
from torch import Tensor

PARALLEL = 1e-6
"""Sine of an angle below which two vectors are the same or opposite, and the way between them is taken straight."""


def mean_vector(vectors: Tensor) -> Tensor:
    """Return the unit vector (D,) in the middle of unit vectors (V, D)."""
    return F.normalize(vectors.mean(0), dim=-1)


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Return the unit vector at `share` of the way from a (..., D) to b (..., D), on the shortest arc.

    Ken Shoemake, "Animating Rotation with Quaternion Curves" (1985), section 3.3.
    """
    angle = 2 * torch.atan2((a - b).norm(dim=-1, keepdim=True), (a + b).norm(dim=-1, keepdim=True))
    sine = angle.sin()
    arc = (((1 - share) * angle).sin() * a + (share * angle).sin() * b) / sine.clamp(min=PARALLEL)
    return F.normalize(torch.where(sine > PARALLEL, arc, torch.lerp(a, b, share)), dim=-1)


def text_difference(away: Tensor, towards: Tensor) -> Tensor:
    """Return the unit vector (D,) of what `towards` says and `away` does not, both (D,).

    Ramesh et al., "Hierarchical Text-Conditional Image Generation with CLIP Latents" (2022), section 3.3.
    """
    return F.normalize(towards - away, dim=-1)
