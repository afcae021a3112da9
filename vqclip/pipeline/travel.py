"""A plan's path of texts and pictures as a journey: what to aim for on the way, and the points' own latents."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vqclip.common.images import fit
from vqclip.guidance.objective import Targets
from vqclip.guidance.vectors import slerp
from vqclip.models.drawers.drawer import Drawer
from vqclip.optimisation.journey import Journey, aim_targets
from vqclip.pipeline.inputs import Inputs
from vqclip.pipeline.plan import Plan

Draw = Callable[[str, Sequence[Targets]], Tensor]
"""Draws a latent (N, C, h, w) for a caption and what each perceptor shall see."""


def make_journey(
    plan: Plan, inputs: Inputs, drawer: Drawer, targets: Sequence[Targets], points: Sequence[Tensor], draw: Draw | None
) -> Journey | None:
    """Return the journey along the plan's path, or None without one.

    `points` (P, D) are what each perceptor sees at them. `targets` hold the traveller as their last row. A text has a
    latent of its own only where `draw` can draw one.
    """
    path = plan.config.targets.path
    if not path:
        return None
    latents: Tensor | None = None
    if draw is not None or all(point in inputs.images for point in path):
        latents = torch.stack([_latent(number, plan, inputs, drawer, points, draw) for number in range(len(path))])
    rows = [target.embeddings[-1:] for target in targets]
    return Journey(plan.config.targets.frames, len(path), aim_targets(rows, points, slerp), latents, drawer.space.enter)


def _latent(
    number: int, plan: Plan, inputs: Inputs, drawer: Drawer, points: Sequence[Tensor], draw: Draw | None
) -> Tensor:
    """The latent of one point, (1, …): a picture's own, or what is drawn for a text."""
    point = plan.config.targets.path[number]
    if point in inputs.images:
        return drawer.encode(fit(inputs.images[point], (plan.width, plan.height)))
    assert draw is not None
    return draw(point, [_alone(each[number]) for each in points])


def _alone(vector: Tensor) -> Targets:
    """One picture's only target."""
    return Targets(
        embeddings=vector[None],
        weights=vector.new_ones(1),
        stops=vector.new_full((1,), -torch.inf),
        picture=torch.zeros(1, dtype=torch.long, device=vector.device),
    )
