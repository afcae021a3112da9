"""Gradients that point to the scene: how a CLIP in training learns to draw what a caption says.

A picture's likeness to a caption has a gradient; where that points the way to the drawn scene, following it draws the
scene. So the angle between both is a loss (perceptually aligned gradients: Ganz, Kawar & Elad, arXiv 2207.11378), whose
own gradient is one of second order. It is taken along the way that the gradient itself leads, from what random codes
look like to a scene: there it is needed.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

POOL = 2  # pixels of a view that are one where directions are compared: finer ones the VQGAN cannot follow
STRIDES = (0.1, 0.5)  # of the rest of the way, that one step goes


def alignment(likeness: Callable[[Tensor], Tensor], views: Tensor, scenes: Tensor) -> tuple[Tensor, Tensor]:
    """How far the gradient of `likeness` (N,) of views (N, 3, side, side) turns away from the way to their `scenes`, as
    1 - cosine, 0..2, the mean; and that gradient, of no further effect."""
    views = views.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(likeness(views).sum(), views, create_graph=True)
    directions = [functional.avg_pool2d(part.float(), POOL).flatten(1) for part in (gradient, scenes - views.detach())]
    return 1 - functional.cosine_similarity(*directions, dim=1).mean(), gradient.detach()


def stride(views: Tensor, scenes: Tensor, gradient: Tensor, numbers: torch.Generator) -> Tensor:
    """`views` after a step along the `gradient`, soft as codes are, over a part of the distance to `scenes`."""
    soft = functional.avg_pool2d(gradient, POOL)
    soft = functional.interpolate(soft, views.shape[2:], mode="bilinear", align_corners=False)
    far, long = ((part.flatten(1).norm(dim=1)).clamp_min(1e-12) for part in (scenes - views, soft))
    share = torch.empty(len(views), device=views.device).uniform_(*STRIDES, generator=numbers)
    return (views + soft * (share * far / long)[:, None, None, None]).clamp(0, 1)
