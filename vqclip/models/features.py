"""What a CLIP's image tower sees on its way: the features of an early layer or of every stage, place by place."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqclip.common.errors import UsageError
from vqclip.models.perceptor import Perceptor

QUARTER = 3
"""Blocks of a transformer behind which its tokens are read: of 12, a quarter."""


class StageFeatures:
    """What a perceptor's tower knows of each place behind its stages, the last but for a transformer's too.

    The stages of a convolutional tower (CLIP's ResNets, timm's ConvNeXts and FastViTs), or every third block of a
    transformer.

    Raises:
        UsageError: a tower of another build.
    """

    def __init__(self, perceptor: Perceptor) -> None:
        self.perceptor = perceptor
        self.behind = _behind_stages(perceptor)

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Return the features (N, P, D) of pictures (N, 3, H, W) in [0, 1] behind each stage at its P places, with a
        gradient."""
        seen: list[Tensor] = []
        handles = [layer.register_forward_pre_hook(lambda layer, given: seen.append(given[0])) for layer in self.behind]
        try:
            self.perceptor.encode_image(self.perceptor.view(images))
        finally:
            for handle in handles:
                handle.remove()
        return [_by_place(features.float()) for features in seen]


class EarlyFeatures:
    """The first of these alone: what it looks like there, and not yet what it is.

    Raises:
        UsageError: a tower of another build.
    """

    def __init__(self, perceptor: Perceptor) -> None:
        self.stages = StageFeatures(perceptor)
        self.stages.behind = self.stages.behind[:1]

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features (N, P, D) of pictures (N, 3, H, W) in [0, 1] at P places, with a gradient."""
        return self.stages(images)[0]


def _by_place(features: Tensor) -> Tensor:
    """Maps (N, D, h, w), or tokens (N, 1 + P, D) without that of the whole, as (N, P, D)."""
    if features.dim() == 4:
        return features.flatten(2).mT
    return F.layer_norm(features[:, 1:], features.shape[-1:])


def _behind_stages(perceptor: Perceptor) -> Sequence[nn.Module]:
    """The layers that are given these features; the last block of a quick transformer returns a single token."""
    visual: Any = perceptor.model.visual
    trunk: Any = getattr(visual, "trunk", None)
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    blocks = blocks if blocks is not None else getattr(trunk, "blocks", None)
    if blocks is not None:
        return list(blocks[QUARTER::QUARTER]) or [blocks[-1]]
    if hasattr(trunk, "stages"):
        layers = list(trunk.children())
        return [*trunk.stages[1:], layers[layers.index(trunk.stages) + 1]]
    if hasattr(visual, "layer4"):
        return [visual.layer2, visual.layer3, visual.layer4, visual.attnpool]
    raise UsageError(
        f"The losses 'style' and 'content', and targets.content, cannot look into {perceptor.name!r}; they are for "
        "ViT, ResNet, ConvNeXt and FastViT towers."
    )


@torch.no_grad()
def width_of(perceptor: Perceptor) -> int:
    """Return the length D of a perceptor's vectors."""
    side = perceptor.size
    return int(perceptor.encode_image(torch.zeros(1, 3, side, side, device=perceptor.device)).shape[1])
