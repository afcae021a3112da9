"""What is to be seen where: pictures are drawn after examples, by what these have in common at each place.

Inside a CLIP's tower features still have places (A. Mahendran and A. Vedaldi, "Understanding Deep Image
Representations by Inverting Them", 2015), and those of a robust one tell what to draw there (L. Engstrom et al.,
"Adversarial Robustness as a Prior for Learned Representations", arXiv 1906.00945): all that its last vector has lost.

Where several examples of one thing agree, the thing is, and the picture is pulled to what they show. Elsewhere they
show their own grounds: there it is only as even as they are, and the prompt decides.

Shapes: N pictures, K examples, P places, D features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.guidance.losses import Loss
from vqclip.guidance.places import cropped

Sight = Callable[[Tensor], Sequence[Tensor]]
"""From pictures (N, 3, H, W) in [0, 1] to features (N, P, D) behind each stage of a tower."""


@dataclass(frozen=True)
class Common:
    """What K examples have in common behind one stage, by the angles of their features around their mean `centre` (D,).

    `mean` (P, D) are mean directions of unit length. `same` (P,) says how much of the pull each place has, 1 in all,
    or 0 everywhere where nothing agrees; `other` (P,) the same of what is left, of which `even` () is how much the
    features are alike within an example: the squared length of their mean, in [0, 1].
    """

    centre: Tensor
    mean: Tensor
    same: Tensor
    other: Tensor
    even: Tensor

    def distance(self, features: Tensor) -> Tensor:
        """How far features (N, P, D) are from it, (N,): one minus the cosine where the examples agree, and what is
        missing to their evenness elsewhere."""
        seen = F.normalize(features - self.centre, dim=-1)
        apart = (self.same * (1 - (seen * self.mean).sum(-1))).sum(1)
        return apart + (self.even - _evenness(seen, self.other)).clamp(min=0)


def common(features: Tensor) -> Common:
    """Return what examples with features (K, P, D) have in common; one example agrees with itself everywhere.

    K unit vectors with a mean of squared length m have a mean cosine among themselves of (K m - 1) / (K - 1): how much
    the examples agree at a place, if it is above 0.
    """
    count, centre = len(features), features.mean((0, 1))
    seen = F.normalize(features - centre, dim=-1)
    mean = seen.mean(0)
    squared = mean.square().sum(-1)
    agreement = ((count * squared - 1) / (count - 1)).clamp(0, 1) if count > 1 else torch.ones_like(squared)
    other = _shares(1 - agreement)
    return Common(centre, F.normalize(mean, dim=-1), _shares(agreement), other, _evenness(seen, other).mean())


def _shares(weights: Tensor) -> Tensor:
    return weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


def _evenness(seen: Tensor, shares: Tensor) -> Tensor:
    """The squared length of the mean of unit vectors (N, P, D), (N,)."""
    return (seen * shares[:, None]).sum(1).square().sum(-1)


@dataclass(frozen=True)
class Example:
    """What `picture` of the N shall show in a `window` of places.WHOLE's form (3,), or all over (None), by `weight`:
    for each sight what examples have in common behind its stages."""

    picture: int
    weight: float
    window: Tensor | None
    stages: Sequence[Sequence[Common]]


def content(examples: Sequence[Example], sights: Sequence[Sight]) -> Loss:
    """The weighted sum over a picture's examples of their distance, a mean over the sights and their stages."""

    def distance(images: Tensor) -> Tensor:
        found = [images.new_zeros(())] * len(images)
        for example in examples:
            image = images[example.picture : example.picture + 1]
            shown = image if example.window is None else cropped(image, example.window)
            apart = [
                torch.cat([stage.distance(features) for stage, features in zip(stages, sight(shown), strict=True)])
                for stages, sight in zip(example.stages, sights, strict=True)
            ]
            far = torch.stack([each.mean() for each in apart]).mean().to(images.dtype)
            found[example.picture] = found[example.picture] + example.weight * far
        return torch.stack(found)

    return distance


@torch.no_grad()
def seen_in(examples: Sequence[Tensor], sights: Sequence[Sight]) -> list[list[Common]]:
    """Return what pictures (1, 3, h, w) in [0, 1], of any sizes, have in common for each sight."""
    found = [[sight(picture) for picture in examples] for sight in sights]
    return [[common(torch.cat(stage)) for stage in zip(*each, strict=True)] for each in found]


def like(picture: Tensor, sights: Sequence[Sight]) -> Loss:
    """The same distance to one picture (1, 3, H, W), for any number of pictures: what is where, in whatever style.

    The content of L. Gatys, A. Ecker and M. Bethge, "Image Style Transfer Using Convolutional Neural Networks" (2016),
    equation 1, by angles.
    """
    stages = seen_in([picture], sights)

    def distance(images: Tensor) -> Tensor:
        return content([Example(n, 1.0, None, stages) for n in range(len(images))], sights)(images)

    return distance
